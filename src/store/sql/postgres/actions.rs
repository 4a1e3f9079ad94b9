//! The action log: written with what it is about, read and pruned.

use chrono::{DateTime, Utc};
use tokio_postgres::{Row as Columns, types::Type};

use super::{
    columns::{Parameter, bound, clean, get, optional_text},
    error::Result,
    pool::Session,
};
use crate::{
    job::JobId,
    store::{
        Action, ActionCursor, ActionPage, Incarnation, Keep, LoggedAction,
        sql::{
            instant,
            latest::{action_page, actions_after, actions_to_read},
            millis, millis_from, signed, unsigned,
        },
    },
};

/// Puts the entries of writes that are done in the same transaction.
pub(super) const PUT: &str = concat!(
    "INSERT INTO punctual_actions (at, token, job, incarnation, what, by, because) SELECT ",
    now!(),
    ", a.* FROM unnest($1, $2, $3, $4, $5, $6) AS a(token, job, incarnation, what, by, because) \
     ON CONFLICT DO NOTHING"
);

const LATEST: &str = "SELECT at, token, job, incarnation, what, by, because FROM punctual_actions \
     WHERE (at, token) < ($1, $2) AND at >= $3 ORDER BY at DESC, token DESC LIMIT $4";

const PRUNE: &str = "DELETE FROM punctual_actions WHERE (at, token) IN (SELECT at, token FROM punctual_actions \
     WHERE at < $1 OR (at, token) <= (SELECT at, token FROM punctual_actions \
        ORDER BY at DESC, token DESC LIMIT 1 OFFSET $2) \
     ORDER BY at, token LIMIT $3) RETURNING token";

arrays! {
    /// The columns of entries of the log, without their time.
    Actions<'a> of &'a LoggedAction as it:
    token: i64, INT8_ARRAY = signed(it.token);
    job: String, TEXT_ARRAY = it.job.as_str().into_owned();
    incarnation: i64, INT8_ARRAY = signed(it.incarnation.0);
    what: std::borrow::Cow<'a, str>, TEXT_ARRAY = clean(&it.action.what);
    by: std::borrow::Cow<'a, str>, TEXT_ARRAY = clean(&it.action.by);
    because: Option<std::borrow::Cow<'a, str>>, TEXT_ARRAY = it.action.because.as_deref().map(clean);
}

pub(super) async fn page(
    session: &Session<'_>,
    job: Option<&JobId>,
    after: Option<ActionCursor>,
    limit: usize,
) -> Result<ActionPage> {
    if limit == 0 {
        return Ok(ActionPage::default());
    }
    let (at, token) = actions_after(after);
    let first = millis(DateTime::<Utc>::MIN_UTC);
    let size = bound(actions_to_read(job, limit));
    let parameters = vec![
        (&at as _, Type::INT8),
        (&token as _, Type::INT8),
        (&first as _, Type::INT8),
        (&size as _, Type::INT8),
    ];
    let rows = session.query(LATEST, parameters).await?;
    let actions = rows.iter().map(action).collect::<Result<_>>()?;
    Ok(action_page(actions, job, limit))
}

fn action(row: &Columns) -> Result<LoggedAction> {
    let because = optional_text(row, 6)?;
    let (what, by): (String, String) = (get(row, 4)?, get(row, 5)?);
    let action = Action { because, ..Action::new(by, what) };
    let (at, token) = (instant(get(row, 0)?), unsigned(get(row, 1)?));
    let incarnation = Incarnation(unsigned(get(row, 3)?));
    Ok(LoggedAction::new(at, token, get::<String>(row, 2)?.into(), incarnation, action))
}

/// Deletes up to `limit` entries that are too old, or too many. Returns how many.
pub(super) async fn prune(
    session: &Session<'_>,
    now: DateTime<Utc>,
    limit: usize,
) -> Result<usize> {
    let oldest = now.checked_sub_signed(Keep::ACTIONS).map_or(i64::MIN, millis_from);
    let (most, limit) = (Keep::MOST_ACTIONS as i64, bound(limit));
    let parameters =
        vec![(&oldest as _, Type::INT8), (&most as _, Type::INT8), (&limit as _, Type::INT8)];
    Ok(session.query(PRUNE, parameters).await?.len())
}
