//! Triggers: their JSON form, what the test kit asserts of them, and cron beside an oracle.

mod assertions;
mod json;
mod oracle;
