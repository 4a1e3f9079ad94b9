//! The zone layer: real instants from wall-clock readings, through gaps and folds.
