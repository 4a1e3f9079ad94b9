//! The rest of the family of triggers.
