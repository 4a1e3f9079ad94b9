//! Every case of the contract: with two stores on the same tables, as two nodes have them, and with
//! clones of one that have few connections.

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
        for tables in Tables::on_each() {
            let tables = Arc::new(tables);
            run_conformance_case(case, async || {
                let tables = tables.clone();
                async move || tables.connect().await
            });
        }
    }

    all_cases!([tests]);
}

mod clones_with_few_connections {
    use super::*;

    fn run(case: ConformanceCase) {
        for tables in Tables::on_each() {
            run_conformance_case(case, async || {
                let store = tables.builder().pool_size(4).connect().await.unwrap();
                async move || store.clone()
            });
        }
    }

    all_cases!([tests]);
}
