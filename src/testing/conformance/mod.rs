//! Every sentence of the contract of [`Store`], as tests that any store can be put to.

mod cancellation;
mod claims;
mod due;
mod ledger;
mod nodes;
mod outcomes;
mod races;
mod reads;
mod stage;
mod writes;

use std::time::Duration;

use self::stage::Stage;
use crate::store::Store;

/// How long a case may take, on a slow store and a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// Expands every case of the contract of [`Store`](crate::store::Store) as a test of its own, in a
/// module of the given name.
///
/// The second argument makes place for one store: an async closure that is called once for each case,
/// and returns another, which opens what is there. That one is called twice, as by two nodes, and what
/// it opens first must be empty. What the closures hold lives as long as the case.
///
/// ```
/// use punctual::{store::MemoryStore, testing::store_conformance};
///
/// store_conformance!(memory, async || {
///     let store = MemoryStore::new();
///     async move || store.clone()
/// });
/// # fn main() {}
/// ```
///
/// No case is skipped: where stores differ, they say so in their
/// [`Capabilities`](crate::store::Capabilities), which the cases look at. Cases run on a Tokio runtime
/// of several threads, in real time.
#[doc(hidden)]
#[macro_export]
macro_rules! __store_conformance {
    ($name:ident, $fresh:expr) => {
        mod $name {
            #[allow(unused_imports, reason = "for the expression that makes a store")]
            use super::*;

            // Here, once, for all cases: they are compiled for one type of closure.
            fn run(case: $crate::testing::ConformanceCase) {
                $crate::testing::run_conformance_case(case, $fresh)
            }

            $crate::__store_conformance_cases!([$crate::__store_conformance_tests]);
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __store_conformance_tests {
    ($($of:ident: $($case:ident)*;)*) => {$($(
        #[test]
        fn $case() {
            run($crate::testing::ConformanceCase::$case)
        }
    )*)*};
}

/// The one list of the cases.
#[doc(hidden)]
#[macro_export]
macro_rules! __store_conformance_cases {
    ([$($then:tt)*]) => {
        $($then)*! {
            writes:
                a_new_record_is_what_was_written
                an_unknown_id_has_no_record
                adding_an_id_in_use_is_lost
                a_change_counts_the_version_up
                a_stale_version_is_lost
                a_stale_fence_is_lost
                a_stale_incarnation_is_lost
                changing_nothing_is_lost
                replacing_begins_another_incarnation
                removing_closes_what_waits
                what_waits_and_was_called_is_abandoned_with_its_job
                each_is_written_by_itself
                a_full_batch_is_written
                a_write_asked_again_is_done
                a_write_asked_again_after_others_is_done
                a_write_asked_again_after_a_take_is_done
                an_add_asked_again_does_not_bring_back
                an_add_asked_again_does_not_restart
                an_id_used_again_collides_with_nothing
                rows_leave_alone_what_is_there
                ids_are_told_apart_by_their_bytes
                texts_come_back_as_they_were
                instants_and_numbers_come_back
                an_end_that_is_remembered_is_read_by_its_id_alone
                a_job_that_is_over_when_it_is_written_is_remembered
                a_remembered_end_is_compared_and_swapped
                other_ends_are_not_remembered
                a_full_store_refuses_an_add
                what_fits_in_a_commit_is_written
                what_is_done_is_logged
                the_action_log_is_bounded;
            reads:
                the_clock_goes
                capabilities_are_within_bounds
                pages_cover_all_in_order
                a_page_begins_behind_any_id
                filters_are_heeded
                what_changed_is_told;
            claims:
                what_is_due_is_taken_in_order
                a_take_marks_record_and_row
                the_limit_is_kept
                the_limit_of_rows_is_kept
                unknown_tasks_are_left_alone
                exceptions_are_left_alone
                of_paused_jobs_only_requests_are_taken
                what_waits_comes_first
                a_job_is_decided_on_once
                decisions_see_record_and_waiting_rows
                what_is_left_is_as_it_was
                what_is_rejected_is_named
                a_take_looks_at_so_many_in_vain
                waiting_rows_are_passed_as_well
                what_is_passed_is_not_due
                a_take_says_when_to_take_next
                only_the_holder_takes_more
                what_the_ledger_has_is_left_out
                closed_rows_are_put_too
                waiting_rows_become_what_is_decided
                fences_grow_with_takes_and_time
                without_a_row_nothing_is_taken
                a_take_asked_again_gets_the_same
                a_take_of_nothing_asked_again_is_that
                an_earlier_take_is_refused
                nodes_count_for_themselves
                a_take_ends_a_job
                far_fire_times_are_taken_in_order;
            outcomes:
                what_is_released_waits
                only_what_is_ones_own_is_released
                a_release_asked_again_leaves_alone
                what_is_released_counts_its_attempts
                what_is_released_of_a_gone_job_is_skipped
                what_is_released_of_a_gone_job_and_was_called_is_abandoned
                an_outcome_is_kept
                every_fate_is_kept
                an_outcome_is_refused_once_taken_again
                a_later_take_refuses_no_other_row
                a_late_outcome_replaces_abandoned
                a_late_outcome_closes_what_waits_again
                an_outcome_needs_no_lease
                the_first_outcome_stays
                a_finish_asked_again_does_the_rest
                the_outcome_of_no_row_is_refused
                a_finish_ends_a_job
                an_outcome_says_how_its_job_ends
                the_outcome_of_a_gone_job_is_kept;
            nodes:
                nodes_are_listed
                signs_of_life_are_counted
                nobody_is_buried_who_lives
                only_a_first_sign_of_life_begins_one
                a_first_sign_asked_again_changes_nothing
                a_node_that_leaves_is_buried
                leaving_again_is_no_error
                the_dead_are_buried
                the_dead_are_buried_once
                the_dead_do_not_hand_on_for_ever
                a_job_outlives_a_node
                what_the_dead_had_of_a_gone_job_is_abandoned
                what_is_left_of_the_dead_is_buried_later
                what_a_node_has_is_listed;
            due:
                the_earliest_fire_time_is_told
                waiting_rows_are_due_at_once
                what_others_hold_is_not_due
                changes_are_told
                who_is_slow_hears_of_changes_all_the_same;
            ledger:
                history_begins_with_the_latest
                pages_cover_the_ledger
                fates_are_listed_latest_first
                fates_are_filtered
                waiting_rows_are_read_by_job
                what_the_ended_have_left_is_deleted
                the_ledger_is_bounded
                the_newest_are_kept
                the_old_are_deleted
                open_rows_are_kept
                the_last_minute_is_kept
                ends_are_deleted_too
                a_pruned_row_has_no_outcome
                pruning_goes_page_by_page;
            cancellation:
                a_write_given_up_is_done_once
                a_take_given_up_is_done_once
                a_finish_given_up_is_done_once
                a_release_given_up_is_done_once
                a_life_given_up_is_lived_once
                a_burial_given_up_is_done_once;
            races:
                each_fire_time_is_run_once
                one_of_several_writers_wins
                a_write_and_a_take_both_count
                a_removal_and_a_take_leave_nothing
                a_take_and_a_burial_lose_nothing
                a_finish_and_a_burial_keep_the_outcome
                a_take_asked_twice_at_once_is_one
                a_list_misses_nothing_meanwhile;
        }
    };
}

macro_rules! dispatch {
    ($($of:ident: $($case:ident)*;)*) => {
        /// One case of [`store_conformance!`](crate::testing::store_conformance).
        #[doc(hidden)]
        #[allow(non_camel_case_types, missing_docs, reason = "they are named like their tests")]
        #[derive(Clone, Copy, Debug)]
        pub enum ConformanceCase {
            $($($case,)*)*
        }

        async fn run<S: Store>(case: ConformanceCase, stage: Stage<S>) {
            // Boxed, so that the future of one case is not as large as that of the largest.
            match case {
                $($(ConformanceCase::$case => Box::pin($of::$case(stage)).await,)*)*
            }
        }
    };
}

__store_conformance_cases!([dispatch]);

/// What a test of [`store_conformance!`](crate::testing::store_conformance) does.
#[doc(hidden)]
pub fn run_conformance_case<F, O, S>(case: ConformanceCase, fresh: F)
where
    F: AsyncFnOnce() -> O,
    O: AsyncFn() -> S,
    S: Store,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .expect("a test may start threads");
    runtime.block_on(async {
        let open = fresh().await;
        let stage = Stage::set(&open).await;
        let ended = tokio::time::timeout(LIMIT, run(case, stage)).await;
        assert!(ended.is_ok(), "the case takes longer than {LIMIT:?}");
    });
}
