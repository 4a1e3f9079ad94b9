//! The SQL statement that adds a job in a transaction of the application's.

/// A statement that inserts a record, with one parameter: see
/// [`Store::insert_statement`](crate::store::Store::insert_statement).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InsertStatement {
    /// The SQL text, with one placeholder of the database's.
    pub sql: String,
    /// The parameter: a JSON document, as text.
    pub parameter: String,
}

impl InsertStatement {
    /// A statement with its parameter.
    pub fn new(sql: impl Into<String>, parameter: impl Into<String>) -> InsertStatement {
        InsertStatement { sql: sql.into(), parameter: parameter.into() }
    }
}
