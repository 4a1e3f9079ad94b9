//! The conformance suite: the contract of [`Store`] as tests for any store.

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

/// The maximum duration of a case, on a slow store and a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// Expands every case of the contract of [`Store`](crate::store::Store) as a separate test, in a
/// module with the given name.
///
/// The second argument is an async closure that is called once per case and prepares an empty store.
/// It returns another async closure, which is called twice and opens that store, as two nodes do.
/// Values that the closures capture live as long as the case.
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
/// No case is skipped: stores differ only in their [`Capabilities`](crate::store::Capabilities),
/// which the cases read. Cases run on a multi-threaded Tokio runtime, in real time.
#[doc(hidden)]
#[macro_export]
macro_rules! __store_conformance {
    ($name:ident, $fresh:expr) => {
        mod $name {
            #[allow(unused_imports, reason = "for the expression that opens a store")]
            use super::*;

            // One function for all cases, so that they are compiled for one type of closure.
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

/// The list of all cases.
#[doc(hidden)]
#[macro_export]
macro_rules! __store_conformance_cases {
    ([$($then:tt)*]) => {
        $($then)*! {
            writes:
                a_new_record_has_the_written_fields
                an_unknown_id_has_no_record
                adding_an_id_in_use_is_lost
                a_change_increments_the_version
                a_stale_version_is_lost
                a_stale_fence_is_lost
                a_stale_incarnation_is_lost
                changing_a_missing_record_is_lost
                replacing_starts_another_incarnation
                removing_closes_waiting_rows
                a_waiting_row_whose_work_was_called_is_abandoned_with_its_job
                each_write_is_independent
                a_full_batch_is_written
                a_retried_write_is_done
                a_write_retried_after_others_is_done
                a_write_retried_after_a_claim_is_done
                a_retried_add_does_not_restore_a_removed_job
                a_retried_add_does_not_restart_an_ended_job
                a_reused_id_has_no_row_conflicts
                written_rows_do_not_replace_rows
                ids_are_compared_by_bytes
                texts_are_stored_unchanged
                instants_and_numbers_are_stored_exactly
                a_remembered_end_is_read_only_by_its_id
                a_job_written_without_fire_times_is_remembered
                a_remembered_end_is_compared_and_swapped
                other_ends_are_not_remembered
                a_full_store_refuses_an_add
                writes_within_max_bytes_are_done
                actions_are_logged_once
                the_action_log_is_bounded;
            reads:
                the_clock_advances
                capabilities_are_within_bounds
                pages_list_all_records_in_order
                a_page_starts_after_any_id
                records_are_filtered
                changed_records_are_returned
                a_page_of_nothing_is_the_last;
            claims:
                due_jobs_are_claimed_in_order
                a_claim_marks_record_and_row
                a_claim_keeps_to_its_limit
                a_claim_keeps_to_its_row_limit
                a_claim_without_limits_claims_what_is_due
                unregistered_tasks_are_not_claimed
                excluded_jobs_are_not_claimed
                of_paused_jobs_only_requested_runs_are_claimed
                jobs_with_waiting_rows_come_first
                a_job_is_decided_once
                decisions_get_record_and_waiting_rows
                decisions_get_a_bounded_number_of_waiting_rows
                a_left_job_is_unchanged
                rejected_jobs_are_returned
                the_scan_of_a_claim_is_bounded
                the_scan_of_waiting_rows_is_bounded
                passed_jobs_are_not_due
                a_claim_returns_the_next_due_instant
                only_the_claiming_node_claims_more
                fire_times_in_the_ledger_are_left_out
                closed_rows_are_inserted
                waiting_rows_change_as_decided
                fences_grow_with_claims_and_time
                a_node_without_a_row_claims_nothing
                a_retried_claim_returns_the_same_rows
                a_retried_empty_claim_is_empty
                an_earlier_claim_is_refused
                each_node_counts_its_claims
                a_claim_ends_a_job
                far_fire_times_are_claimed_in_order;
            outcomes:
                a_released_row_waits
                only_own_claims_are_released
                a_retried_release_leaves_new_claims_alone
                a_release_sets_the_attempt
                a_released_row_of_a_removed_job_is_skipped
                a_released_row_of_a_removed_job_whose_work_was_called_is_abandoned
                an_outcome_is_stored
                every_fate_is_stored
                an_outcome_is_refused_after_another_claim
                a_later_claim_refuses_no_other_row
                a_late_outcome_replaces_abandoned
                a_late_outcome_closes_a_waiting_row
                an_outcome_needs_no_lease
                the_first_outcome_stays
                a_message_may_have_any_characters
                a_retried_finish_does_the_rest
                the_outcome_of_a_missing_row_is_refused
                a_finish_ends_a_job
                an_outcome_has_the_fate_of_its_job
                the_outcome_of_a_removed_job_is_stored;
            nodes:
                nodes_are_listed
                heartbeats_are_counted
                a_live_node_does_not_expire
                only_a_first_heartbeat_inserts_a_row
                a_retried_first_heartbeat_changes_nothing
                a_deregistered_node_is_reclaimed
                deregistering_again_is_no_error
                a_dead_node_is_reclaimed
                a_dead_node_is_reclaimed_once
                recoveries_are_bounded
                a_job_outlives_a_node
                a_dead_nodes_row_of_a_removed_job_is_abandoned
                reaping_continues_after_a_full_batch
                claimed_rows_are_listed;
            due:
                next_due_is_the_earliest_fire_time
                waiting_rows_are_due_at_once
                jobs_of_other_nodes_are_not_due
                changes_are_notified
                a_slow_receiver_gets_an_unknown_change;
            ledger:
                history_begins_with_the_latest
                pages_cover_the_ledger
                fates_are_listed_latest_first
                fates_are_filtered
                fates_are_filtered_between_milliseconds
                waiting_rows_are_read_by_job
                rows_of_ended_jobs_are_deleted
                the_ledger_is_bounded
                the_newest_are_kept
                the_old_are_deleted
                open_rows_are_kept
                the_last_minute_is_kept
                ends_are_deleted_too
                a_pruned_row_has_no_outcome
                pruning_keeps_to_its_limit;
            cancellation:
                a_cancelled_write_is_done_once
                a_cancelled_claim_is_done_once
                a_cancelled_finish_is_done_once
                a_cancelled_release_is_done_once
                a_cancelled_heartbeat_is_done_once
                a_cancelled_reap_is_done_once;
            races:
                each_fire_time_is_run_once
                one_of_several_writers_wins
                a_write_and_a_claim_lose_nothing
                a_removal_and_a_claim_leave_nothing
                a_claim_and_a_reap_lose_nothing
                a_finish_and_a_reap_keep_the_outcome
                concurrent_retries_of_a_claim_are_one
                slow_claims_share_no_job
                a_claim_decides_the_current_record
                a_finish_and_a_request_agree
                the_last_two_outcomes_end_a_job
                a_replacement_and_a_claim_lose_nothing
                a_list_during_changes_misses_nothing;
        }
    };
}

macro_rules! dispatch {
    ($($of:ident: $($case:ident)*;)*) => {
        /// One case of [`store_conformance!`](crate::testing::store_conformance).
        #[doc(hidden)]
        #[allow(non_camel_case_types, missing_docs, reason = "the variants have the names of their tests")]
        #[derive(Clone, Copy, Debug)]
        pub enum ConformanceCase {
            $($($case,)*)*
        }

        async fn run<S: Store>(case: ConformanceCase, stage: Stage<S>) {
            // Boxed, so that each future is only as large as its case.
            match case {
                $($(ConformanceCase::$case => Box::pin($of::$case(stage)).await,)*)*
            }
        }
    };
}

__store_conformance_cases!([dispatch]);

/// Runs one case of [`store_conformance!`](crate::testing::store_conformance).
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
