//! Every case of the contract: with two stores on the same tables, as two nodes have them, and with
//! statements that are not prepared.

use std::sync::Arc;

use punctual::{
    __store_conformance_cases as all_cases,
    testing::{ConformanceCase, run_conformance_case},
};

use crate::fixture::Tables;

macro_rules! tests {
    ($($of:ident: $($case:ident)*;)*) => {$($(
        #[test]
        fn $case() {
            run(ConformanceCase::$case)
        }
    )*)*};
}

mod two_stores {
    use super::*;

    fn run(case: ConformanceCase) {
        let Some(tables) = Tables::new() else { return };
        let tables = Arc::new(tables);
        run_conformance_case(case, async || {
            let tables = tables.clone();
            async move || tables.connect().await
        });
    }

    all_cases!([tests]);
}

mod clones_without_prepared_statements {
    use super::*;

    fn run(case: ConformanceCase) {
        let Some(tables) = Tables::new() else { return };
        run_conformance_case(case, async || {
            let builder = tables.builder().prepared(false).pool_size(4).notify(false);
            let store = builder.connect().await.unwrap();
            async move || store.clone()
        });
    }

    all_cases!([tests]);
}
