//! Triggers: their JSON form, the assertions of the test kit, and cron compared with an oracle.

mod assertions;
mod json;
mod oracle;
