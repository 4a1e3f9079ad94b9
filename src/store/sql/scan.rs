//! The scan of a claim: which jobs a node looks at, in which order, and how far.
//!
//! A scan knows no database. A store reads the [pages](Scan::wanted) that the scan wants, and
//! [feeds](Scan::feed) them, until none is wanted. Nothing is changed before the scan has ended:
//! [`Scan::decided`] then has what is to be.

use std::collections::{HashSet, VecDeque};

use chrono::{DateTime, Utc};

use super::{instant, millis, signed, unsigned};
use crate::store::{ClaimRequest, ClaimResult, Decision, Incarnation, Record, RejectedJob, Row};

/// The maximum number of jobs in a page.
const LONGEST_PAGE: usize = 1001;

/// A job that may be claimed.
pub(super) struct Candidate<T> {
    pub(super) record: Record,
    /// What else the store needs to claim it.
    pub(super) known: T,
    /// The waiting rows that count, in order of their keys.
    pub(super) rows: Vec<Row>,
}

/// A job and what the node claims of it.
pub(super) struct Decided<T> {
    pub(super) record: Record,
    pub(super) known: T,
    pub(super) rows: Vec<Row>,
    pub(super) next_fire: Option<DateTime<Utc>>,
}

/// The order of the jobs in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Jobs with waiting rows that count, by incarnation.
    Waiting,
    /// Jobs that are not paused, up to the horizon, by next fire time and incarnation.
    Due,
    /// The same jobs from the end backwards.
    Newest,
}

/// The position of a job in a line: its next fire time, if that is the order, and its incarnation.
pub(super) type Place = (i64, i64);

/// The start of a line.
pub(super) const BEGINNING: Place = (i64::MIN, i64::MIN);

impl Order {
    pub(super) fn place(self, record: &Record) -> Place {
        let at = record.next_fire.filter(|_| self != Order::Waiting);
        (at.map_or(i64::MIN, millis), signed(record.incarnation.0))
    }
}

/// A page that the scan wants to look at: of the jobs of a task that the node may claim, which others do
/// not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Page<'a> {
    pub(super) order: Order,
    pub(super) task: &'a str,
    /// The page starts after this place. The newest jobs have one page only.
    pub(super) after: Place,
    /// The maximum number of jobs.
    pub(super) limit: usize,
}

/// The state of a scan.
pub(super) struct Scan<'a, T> {
    request: &'a ClaimRequest,
    /// How many jobs more than may be claimed a page has.
    more: usize,
    /// The decided jobs, in order.
    pub(super) decided: Vec<Decided<T>>,
    /// The result so far, without jobs.
    pub(super) result: ClaimResult,
    /// The jobs that were left or rejected.
    pub(super) unclaimed: HashSet<Incarnation>,
    /// The jobs that were decided: each is decided once.
    seen: HashSet<Incarnation>,
    /// The number of decided rows.
    rows: usize,
    phases: VecDeque<Phase<'a, T>>,
}

/// A part of a scan: the lines of one order, merged.
struct Phase<'a, T> {
    order: Order,
    lines: Vec<Line<'a, T>>,
    /// How many jobs may be left or rejected, or of the newest how many may be looked at.
    looks: usize,
    /// Whether the phase moves the position of the scan.
    moves: bool,
    /// How many jobs were left or rejected, or of the newest looked at.
    looked: usize,
    /// The last job that was left or rejected.
    last: Option<Place>,
}

struct Line<'a, T> {
    task: &'a str,
    ahead: VecDeque<Candidate<T>>,
    /// Where the next page starts; `None` if there is none.
    after: Option<Place>,
}

impl<'a, T> Scan<'a, T> {
    /// A scan whose pages have up to `more` jobs more than may be claimed: with one more it is known
    /// whether there are more, and without, jobs that are locked as they are read are locked to be claimed.
    pub(super) fn new(request: &'a ClaimRequest, more: usize) -> Scan<'a, T> {
        let mut scan = Scan {
            request,
            more,
            decided: Vec::new(),
            result: ClaimResult { passed: request.passed, ..ClaimResult::default() },
            unclaimed: HashSet::new(),
            seen: HashSet::new(),
            rows: 0,
            phases: VecDeque::new(),
        };
        let few = request.looks.div_ceil(8);
        let waiting = request.passed.waiting.map(|passed| (i64::MIN, signed(passed.0)));
        let due = request.passed.due.map(|(at, passed)| (millis(at), signed(passed.0)));
        for (order, from) in [(Order::Waiting, waiting), (Order::Due, due)] {
            if from.is_some() {
                scan.push(order, BEGINNING, few, false);
            }
            scan.push(order, from.unwrap_or(BEGINNING), request.looks, true);
        }
        scan.push(Order::Newest, BEGINNING, few, false);
        scan
    }

    fn push(&mut self, order: Order, after: Place, looks: usize, moves: bool) {
        let mut tasks: Vec<&str> = self.request.tasks.iter().map(String::as_str).collect();
        // In an order of their own, so that the same store gives the same result.
        tasks.sort_unstable();
        let line = |task| Line { task, ahead: VecDeque::new(), after: Some(after) };
        let lines = tasks.into_iter().map(line).collect();
        self.phases.push_back(Phase { order, lines, looks, moves, looked: 0, last: None });
    }

    /// The pages to read next, to be [fed](Scan::feed) in this order. None after the scan has ended.
    pub(super) fn wanted(&self) -> Vec<Page<'a>> {
        // What a later phase begins with is read along: it is likely to be needed.
        let needed = self
            .phases
            .iter()
            .filter(|phase| phase.order != Order::Newest || self.result.passed.due.is_some());
        needed.flat_map(|phase| self.pages(phase)).collect()
    }

    fn pages(&self, phase: &Phase<'a, T>) -> impl Iterator<Item = Page<'a>> {
        let few = phase.looks;
        let tasks = self.request.tasks.len().max(1);
        let page = (self.request.limit / tasks).saturating_add(self.more);
        // Of the newest jobs, `few` are looked at in all lines together.
        let limit = if phase.order == Order::Newest { few.div_ceil(tasks) } else { page };
        let (order, limit) = (phase.order, limit.clamp(1, LONGEST_PAGE));
        let empty = phase.lines.iter().filter(|line| line.ahead.is_empty());
        empty.filter_map(move |line| {
            let Line { task, after, .. } = *line;
            Some(Page { order, task, after: after?, limit })
        })
    }

    /// Goes on with the pages that were [wanted](Scan::wanted), in the same order.
    pub(super) fn feed(&mut self, pages: impl IntoIterator<Item = Vec<Candidate<T>>>) {
        let wanted = self.wanted();
        let mut pages = wanted.into_iter().zip(pages).peekable();
        for phase in &mut self.phases {
            for line in phase.lines.iter_mut().filter(|line| line.ahead.is_empty()) {
                let is_next = |page: &Page<'_>| {
                    (page.order, page.task) == (phase.order, line.task)
                        && Some(page.after) == line.after
                };
                let Some((page, candidates)) = pages.next_if(|(page, _)| is_next(page)) else {
                    continue;
                };
                let is_full = candidates.len() >= page.limit && phase.order != Order::Newest;
                let last = candidates.last().filter(|_| is_full);
                line.after = last.map(|last| phase.order.place(&last.record));
                line.ahead = candidates.into();
            }
        }
        self.go_on();
    }

    fn is_full(&self) -> bool {
        self.decided.len() >= self.request.limit || self.rows >= self.request.row_limit
    }

    fn is_left_out(&self, incarnation: Incarnation) -> bool {
        self.seen.contains(&incarnation) || self.request.except.contains(&incarnation)
    }

    /// Decides as many jobs as it can with what it has read.
    fn go_on(&mut self) {
        while let Some(mut phase) = self.phases.pop_front() {
            let is_newest = phase.order == Order::Newest;
            if is_newest && (self.result.passed.due.is_none() || self.is_full()) {
                continue;
            }
            if !self.look(&mut phase) {
                // The next page is missing.
                self.phases.push_front(phase);
                return;
            }
            let Some((at, last)) = phase.last.filter(|_| phase.moves) else { continue };
            let last = Incarnation(unsigned(last));
            match phase.order {
                Order::Waiting => self.result.passed.waiting = Some(last),
                Order::Due => self.result.passed.due = Some((instant(at), last)),
                Order::Newest => {}
            }
        }
    }

    /// Looks at the jobs of a phase; returns whether that has ended.
    fn look(&mut self, phase: &mut Phase<'a, T>) -> bool {
        let is_newest = phase.order == Order::Newest;
        loop {
            for line in &mut phase.lines {
                while line.ahead.front().is_some_and(|it| self.is_left_out(it.record.incarnation)) {
                    line.ahead.pop_front();
                    phase.looked += usize::from(is_newest);
                }
            }
            let is_over = self.is_full() || phase.looked >= phase.looks;
            // Whether there is another job, as far as is known.
            let is_there =
                phase.lines.iter().any(|line| !line.ahead.is_empty() || line.after.is_some());
            if is_over && is_there {
                let is_bound = phase.looks == self.request.looks && !is_newest;
                self.result.more |= self.is_full() || is_bound;
                return true;
            }
            if phase.lines.iter().any(|line| line.ahead.is_empty() && line.after.is_some()) {
                return false;
            }
            let Some((place, candidate)) = phase.next() else { return true };
            if phase.order == Order::Waiting && candidate.rows.is_empty() {
                // Another claim was faster, or somebody has edited the counts.
                continue;
            }
            let is_claimed = self.decide(candidate);
            phase.looked += usize::from(is_newest || !is_claimed);
            if !is_claimed {
                phase.last = Some(place);
            }
        }
    }

    /// Decides a job; returns whether it is to be claimed.
    fn decide(&mut self, Candidate { record, known, rows }: Candidate<T>) -> bool {
        self.seen.insert(record.incarnation);
        match (self.request.decide)(&record, &rows) {
            Decision::Claim { mut rows, next_fire } => {
                // Of two rows with one key the first is put, and the second finds it there.
                let mut keys = HashSet::with_capacity(rows.len());
                rows.retain(|row| keys.insert(row.key));
                self.rows += rows.len();
                self.decided.push(Decided { record, known, rows, next_fire });
                return true;
            }
            Decision::Leave => self.result.left += 1,
            Decision::Reject(error) => {
                self.unclaimed.insert(record.incarnation);
                let (stamp, job) = (record.stamp(), record.id);
                self.result.rejected.push(RejectedJob { job, stamp, error });
                return false;
            }
        }
        self.unclaimed.insert(record.incarnation);
        false
    }
}

impl<T> Phase<'_, T> {
    /// Takes the next job of all lines, in order.
    fn next(&mut self) -> Option<(Place, Candidate<T>)> {
        let (order, is_newest) = (self.order, self.order == Order::Newest);
        let heads = self.lines.iter_mut().filter_map(|line| {
            let place = order.place(&line.ahead.front()?.record);
            Some((place, line))
        });
        let (place, line) = if is_newest {
            heads.max_by_key(|(place, _)| *place)
        } else {
            heads.min_by_key(|(place, _)| *place)
        }?;
        Some((place, line.ahead.pop_front()?))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::store::{ClaimCursor, Decide, NodeId};

    fn job(incarnation: u64, at: i64) -> Candidate<()> {
        let added = DateTime::UNIX_EPOCH;
        let mut record = Record::new("job", Incarnation(incarnation), "task", added);
        record.next_fire = Some(instant(at));
        Candidate { record, known: (), rows: Vec::new() }
    }

    /// A request with a decision that leaves incarnations below `left`, and what was decided.
    fn request(left: u64) -> (ClaimRequest, Arc<Mutex<Vec<u64>>>) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noted = seen.clone();
        let decide: Decide = Arc::new(move |record, _| {
            noted.lock().unwrap().push(record.incarnation.0);
            match record.incarnation.0 < left {
                true => Decision::Leave,
                false => Decision::Claim { rows: Vec::new(), next_fire: None },
            }
        });
        let request = ClaimRequest {
            node: NodeId(1),
            number: 1,
            horizon: instant(1000),
            tasks: Arc::new(["task".to_owned()].into()),
            except: Arc::default(),
            passed: ClaimCursor::default(),
            looks: 8,
            limit: 4,
            row_limit: 100,
            decide,
        };
        (request, seen)
    }

    /// Feeds a scan from these due jobs; returns how many rounds that took.
    fn run(scan: &mut Scan<'_, ()>, jobs: &[(u64, i64)]) -> usize {
        let mut rounds = 0;
        loop {
            let wanted = scan.wanted();
            if wanted.is_empty() {
                return rounds;
            }
            rounds += 1;
            let pages: Vec<_> = wanted
                .into_iter()
                .map(|page| {
                    let mut all: Vec<_> = match page.order {
                        Order::Waiting => Vec::new(),
                        _ => jobs.iter().map(|&(incarnation, at)| job(incarnation, at)).collect(),
                    };
                    all.sort_by_key(|it| page.order.place(&it.record));
                    if page.order == Order::Newest {
                        all.reverse();
                    }
                    all.retain(|it| page.order.place(&it.record) > page.after);
                    all.truncate(page.limit);
                    all
                })
                .collect();
            scan.feed(pages);
        }
    }

    fn decided(scan: &Scan<'_, ()>) -> Vec<u64> {
        scan.decided.iter().map(|it| it.record.incarnation.0).collect()
    }

    #[test]
    fn a_scan_stops_at_its_limit_and_knows_of_more() {
        let (request, _) = request(0);
        let jobs: Vec<_> = (1..=5).map(|it| (it, it as i64)).collect();
        let mut scan = Scan::new(&request, 1);
        assert_eq!(run(&mut scan, &jobs), 1);
        assert_eq!((decided(&scan), scan.result.more), (vec![1, 2, 3, 4], true));
        let mut scan = Scan::new(&request, 1);
        assert_eq!(run(&mut scan, &jobs[1..]), 1);
        assert_eq!((decided(&scan), scan.result.more), (vec![2, 3, 4, 5], false));
    }

    #[test]
    fn a_scan_that_leaves_jobs_reads_on_and_is_bounded() {
        let (request, seen) = request(100);
        let jobs: Vec<_> = (1..=30).map(|it| (it, it as i64)).chain([(200, 500)]).collect();
        let mut scan = Scan::new(&request, 1);
        run(&mut scan, &jobs);
        assert_eq!(*seen.lock().unwrap(), [1, 2, 3, 4, 5, 6, 7, 8, 200]);
        assert_eq!(decided(&scan), [200]);
        assert_eq!(scan.result.passed.due, Some((instant(8), Incarnation(8))));
        assert_eq!((scan.result.left, scan.result.more), (8, true));
    }

    #[test]
    fn a_scan_goes_on_behind_its_position_and_looks_at_the_first() {
        let (mut request, seen) = request(100);
        request.passed.due = Some((instant(20), Incarnation(20)));
        let jobs: Vec<_> = (1..=25).map(|it| (it, it as i64)).collect();
        let mut scan = Scan::new(&request, 1);
        run(&mut scan, &jobs);
        assert_eq!(*seen.lock().unwrap(), [1, 21, 22, 23, 24, 25]);
        assert_eq!(scan.result.passed.due, Some((instant(25), Incarnation(25))));
        assert!(!scan.result.more);
    }
}
