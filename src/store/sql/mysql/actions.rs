//! The action log: written with what it is about, read and pruned.

use chrono::{DateTime, Utc};
use mysql_async::Row as Columns;

use super::{
    super::{
        instant,
        latest::{action_page, actions_after, actions_to_read},
        millis, millis_from, signed, unsigned,
    },
    columns::{NOW, OrNull, Text, get, optional_text, text},
    error::Result,
    pool::Session,
    schema::Tables,
};
use crate::{
    job::JobId,
    store::{Action, ActionCursor, ActionPage, Incarnation, Keep, LoggedAction},
};

/// The SQL that puts the entries of writes that are done in the same transaction.
pub(super) fn insert(tables: &Tables, actions: &[LoggedAction]) -> String {
    let values: Vec<String> = actions
        .iter()
        .map(|it| {
            format!(
                "({NOW}, {}, {}, {}, {}, {}, {})",
                signed(it.token),
                Text(&it.job.as_str()),
                signed(it.incarnation.0),
                Text(&it.action.what),
                Text(&it.action.by),
                OrNull(it.action.because.as_deref().map(Text))
            )
        })
        .collect();
    format!(
        "INSERT INTO {} (at, token, job, incarnation, what, `by`, because) VALUES {} \
         ON DUPLICATE KEY UPDATE at = at",
        tables.actions,
        values.join(",")
    )
}

pub(super) async fn page(
    session: &mut Session<'_>,
    job: Option<&JobId>,
    after: Option<ActionCursor>,
    limit: usize,
) -> Result<ActionPage> {
    if limit == 0 {
        return Ok(ActionPage::default());
    }
    let (at, token) = actions_after(after);
    let sql = format!(
        "SELECT at, token, job, incarnation, what, `by`, because FROM {} \
         WHERE at >= {} AND (at < {at} OR (at = {at} AND token < {token})) \
         ORDER BY at DESC, token DESC LIMIT {}",
        session.tables().actions,
        millis(DateTime::<Utc>::MIN_UTC),
        actions_to_read(job, limit)
    );
    let actions = session.run(&sql).await?.iter().flatten().map(action).collect::<Result<_>>()?;
    Ok(action_page(actions, job, limit))
}

fn action(row: &Columns) -> Result<LoggedAction> {
    let because = optional_text(row, 6)?;
    let action = Action { because, ..Action::new(text(row, 5)?, text(row, 4)?) };
    let (at, token) = (instant(get(row, 0)?), unsigned(get(row, 1)?));
    let incarnation = Incarnation(unsigned(get(row, 3)?));
    Ok(LoggedAction::new(at, token, text(row, 2)?.into(), incarnation, action))
}

/// Deletes up to `limit` entries that are too old, or too many. Returns how many.
pub(super) async fn prune(
    session: &mut Session<'_>,
    now: DateTime<Utc>,
    limit: usize,
) -> Result<usize> {
    let table = &session.tables().actions;
    let oldest = now.checked_sub_signed(Keep::ACTIONS).map_or(i64::MIN, millis_from);
    let newest = format!(
        "SELECT at, token FROM {table} ORDER BY at DESC, token DESC LIMIT 1 OFFSET {}",
        Keep::MOST_ACTIONS
    );
    let answers = session.run(&newest).await?;
    let (at, token): (i64, i64) = match answers.iter().flatten().next() {
        Some(row) => (get(row, 0)?, get(row, 1)?),
        None => (i64::MIN, i64::MIN),
    };
    let sql = format!(
        "DELETE FROM {table} WHERE at < {oldest} OR at < {at} OR (at = {at} AND token <= {token}) \
         ORDER BY at, token LIMIT {limit}; SELECT ROW_COUNT()"
    );
    let answers = session.run(&sql).await?;
    let count = answers.iter().flatten().next().map_or(Ok(0), |row| get::<i64>(row, 0))?;
    Ok(usize::try_from(count).unwrap_or(0))
}
