//! The indexes of a memory store follow from its cells, whatever is done.

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use proptest::prelude::*;

use super::{
    super::{cell::IndexEntry, *},
    indexes::Indexes,
    state::State,
};

/// What the indexes are to be.
fn derived(state: &State) -> Indexes {
    let mut indexes = Indexes::default();
    for (id, cell) in &state.cells {
        assert!(!cell.is_empty(), "an empty cell is kept");
        cell.index_entries().into_iter().for_each(|entry| indexes.insert(entry, id.clone()));
        for row in state.history.of_id(id) {
            let at = row.ended_at.unwrap();
            indexes.insert(IndexEntry::Closed(row.key, at), id.clone());
        }
    }
    indexes
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
}

fn claim(node: u64, number: u64, horizon: DateTime<Utc>, step: i64) -> ClaimRequest {
    let decide: Decide = Arc::new(move |record, waiting| {
        let claimed = |row: &Row| Row { state: RowState::Claimed(NodeId(0)), ..row.clone() };
        let mut rows: Vec<Row> = waiting.iter().map(claimed).collect();
        let mut next_fire = record.next_fire;
        if let Some(at) = next_fire.filter(|at| *at <= horizon && !record.paused) {
            let (incarnation, kind) = (record.incarnation, RowKind::Scheduled);
            let key = RowKey { incarnation, kind, number: at.timestamp_millis() };
            let row = Row::new(key, record.id.clone(), at, RowState::Claimed(NodeId(0)));
            rows.push(Row { recover: step % 2 == 0, ..row });
            next_fire = (step % 5 != 0).then(|| at + TimeDelta::seconds(step));
        }
        Decision::Claim { rows, next_fire }
    });
    ClaimRequest {
        node: NodeId(node),
        number,
        horizon,
        tasks: Arc::new(["a".to_owned(), "b".to_owned()].into()),
        except: Arc::default(),
        passed: ClaimCursor::default(),
        looks: usize::MAX,
        limit: 3,
        row_limit: usize::MAX,
        decide,
    }
}

fn heartbeat(node: u64, ttl: u64) -> Heartbeat {
    Heartbeat::new(NodeId(node), "node", true, Duration::from_secs(ttl))
}

fn outcome(row: &Row, now: DateTime<Utc>) -> RowOutcome {
    RowOutcome {
        key: row.key,
        fence: row.fence,
        fate: Fate::Ran(RunEnd::Succeeded),
        attempt: row.attempt,
        started_at: None,
        ended_at: now,
        message: None,
        job_end: Fate::Completed,
    }
}

fn write(state: &State, choice: u64, step: i64, now: DateTime<Utc>) -> Write {
    let id = JobId::from(format!("job-{}", choice % 3));
    let mut new = Record::new(id.clone(), Incarnation(1 + now.timestamp() as u64), "a", now);
    new.next_fire = (!choice.is_multiple_of(4)).then(|| now + TimeDelta::seconds(step));
    new.remember = choice.is_multiple_of(5);
    if choice.is_multiple_of(2) {
        new.task = "b".to_owned();
    }
    let token = now.timestamp() as u64;
    match (choice / 3 % 5, state.get(&id)) {
        (_, None) => Write::add(new, token),
        (0, Some(current)) => Write::change(current.stamp(), new, token),
        (1, Some(current)) => {
            let end = Row::ended(&current, Fate::Removed, now);
            Write::remove(id, current.stamp(), token).with_rows(vec![end])
        }
        (2, Some(current)) => {
            let paused = !current.paused;
            Write::change(current.stamp(), Record { paused, ..current }, token)
        }
        (_, Some(current)) => {
            let requests = current.requests + 1;
            let (incarnation, kind) = (current.incarnation, RowKind::Requested);
            let key = RowKey { incarnation, kind, number: requests as i64 };
            let row = Row::new(key, id, now, RowState::Waiting);
            Write::change(current.stamp(), Record { requests, ..current }, token)
                .with_rows(vec![row])
        }
    }
}

#[test]
fn pages_of_fates_and_actions_end_whatever_the_limit_and_the_cursor() {
    let mut state = State::default();
    let mut new = Record::new("job", Incarnation(1), "a", at(0));
    new.next_fire = Some(at(1));
    let adding = Write::add(new, 1).with_action(Some(Action::new("ann", "add")));
    state.write(vec![adding], None, at(0)).unwrap();
    state.heartbeat(&heartbeat(1, 60), at(0)).unwrap();
    let taken = state.claim(&claim(1, 1, at(2), 1), at(2)).unwrap();
    let row = &taken.jobs[0].rows[0];
    state.finish(vec![outcome(row, at(3))], at(3));
    let all = FateFilter::default();
    assert_eq!(state.fates(&all, None, 1).rows.len(), 1);
    assert_eq!(state.fates(&all, None, 0), FatePage::default());
    assert_eq!(state.actions(None, None, 0), ActionPage::default());
    let ends = [(DateTime::<Utc>::MIN_UTC, 0), (DateTime::<Utc>::MAX_UTC, 1)];
    for (at, count) in ends {
        let after = Some(FateCursor { ended_at: at, key: row.key });
        assert_eq!(state.fates(&all, after, 10).rows.len(), count);
        let after = Some(ActionCursor { at, token: u64::MAX });
        assert_eq!(state.actions(None, after, 10).actions.len(), count);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn entries_follow_from_cells(
        steps in prop::collection::vec((0..9u8, any::<u64>(), -5..30i64), 1..300),
    ) {
        let mut state = State::default();
        for node in 0..3 {
            state.heartbeat(&heartbeat(node, 60), at(0)).unwrap();
        }
        for (number, (what, choice, step)) in (1..).zip(steps) {
            let now = at(number * 2);
            let node = choice % 3;
            match what {
                0 | 1 => {
                    let write = write(&state, choice, step, now);
                    drop(state.write(vec![write], None, now));
                }
                2..=4 => drop(state.claim(&claim(node, number as u64, now, step), now)),
                5 => {
                    let rows = state.claimed_by(NodeId(node), None, 2);
                    let release = |Claim { key, fence }| Release::new(key, fence, 1 + choice as u32 % 2);
                    state.release(NodeId(node), rows.into_iter().map(release).collect(), now);
                }
                6 => {
                    let rows = state.rows(None, usize::MAX);
                    let open = rows.iter().filter(|row| row.state.is_open());
                    state.finish(open.take(3).map(|row| outcome(row, now)).collect(), now);
                }
                7 => {
                    state.heartbeat(&heartbeat(node, choice % 7 * 10), now).unwrap();
                    state.reap(&[(NodeId(choice % 4), 1)], 2, now);
                }
                _ => {
                    let keep = Keep { rows: (choice % 30) as u32, total: 60, ..Keep::default() };
                    state.prune(keep, 5, now);
                }
            }
            assert_eq!(state.indexes, derived(&state));
            let rows = state.rows(None, usize::MAX);
            assert!(rows.is_sorted_by(|a, b| a.key < b.key));
        }
    }
}
