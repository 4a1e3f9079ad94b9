//! Jobs in transactions of sqlx: see `tests/`.
