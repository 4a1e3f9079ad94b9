//! Ids of jobs that are about to be added.

use std::collections::HashMap;

use super::Registry;
use crate::{
    core::{Place, durable::Durable},
    error::Error,
    job::JobId,
};

/// Reserved ids, with the place of the job and the number of additions in progress.
#[derive(Default)]
pub(super) struct Reservations(HashMap<JobId, (Place, u32)>);

impl<P> Registry<P> {
    /// Reserves an id for a job that is about to be added to `place`, since a check of a store
    /// takes a while. Several additions to one place may reserve the same id.
    pub(in crate::core) fn reserve(
        &mut self,
        id: &JobId,
        place: Place,
        durable: &Durable,
    ) -> Result<(), Error> {
        self.check_reserved(id, place, durable)?;
        if matches!(place, Place::Store(_)) && self.slot_of(id).is_some() {
            return Err(Error::duplicate_id(format!(
                "there is a job `{id}` in memory already: choose another id, or remove it first"
            )));
        }
        self.reservations.0.entry(id.clone()).or_insert((place, 0)).1 += 1;
        Ok(())
    }

    pub(in crate::core) fn unreserve(&mut self, id: &JobId) {
        if let Some((_, adding)) = self.reservations.0.get_mut(id) {
            *adding -= 1;
            if *adding == 0 {
                self.reservations.0.remove(id);
            }
        }
    }

    /// Checks that a job with this id may be added to `place`: not while one is being added
    /// elsewhere.
    pub(in crate::core) fn check_reserved(
        &self,
        id: &JobId,
        place: Place,
        durable: &Durable,
    ) -> Result<(), Error> {
        match self.reservations.0.get(id) {
            Some(&(other, _)) if other != place => Err(Error::duplicate_id(format!(
                "a job `{id}` is being added to {}: choose another id",
                place_name(other, durable)
            ))),
            _ => Ok(()),
        }
    }
}

/// Returns the name of a place in errors.
fn place_name(place: Place, durable: &Durable) -> String {
    match place {
        Place::Memory => "memory".to_owned(),
        Place::Store(store) => match durable.name(Some(store)) {
            Some(name) => format!("store `{name}`"),
            None => "a store".to_owned(),
        },
    }
}
