//! A table whose rows keep their slots, in pages: a page without rows frees its memory.
//!
//! A `slab` is one allocation that doubles and never shrinks: a burst of jobs would cost up to
//! twice its size while it lasts, and all of it afterwards. Here the lowest page with room is
//! filled first, so that the others empty.

use std::{
    collections::BTreeSet,
    ops::{Index, IndexMut},
};

/// How many rows a page has.
const ROWS: u32 = 128;

pub(in crate::core) struct Table<T> {
    /// Empty pages in the middle are dropped.
    pages: Vec<Option<Page<T>>>,
    /// The pages with room.
    open: BTreeSet<u32>,
    /// The dropped pages.
    gone: BTreeSet<u32>,
    len: usize,
}

struct Page<T> {
    /// Grows on demand.
    rows: Vec<Row<T>>,
    /// The first free row of the existing ones.
    free: Option<u32>,
    occupied: u32,
}

enum Row<T> {
    Occupied(T),
    Free { next: Option<u32> },
}

impl<T> Table<T> {
    pub(in crate::core) fn new() -> Table<T> {
        Table { pages: Vec::new(), open: BTreeSet::new(), gone: BTreeSet::new(), len: 0 }
    }

    pub(in crate::core) fn len(&self) -> usize {
        self.len
    }

    /// Returns the end of the slots.
    pub(in crate::core) fn end(&self) -> u32 {
        self.pages.len() as u32 * ROWS
    }

    /// Inserts a row, made from its slot, into a free one.
    pub(in crate::core) fn insert_with(&mut self, make: impl FnOnce(u32) -> T) -> u32 {
        let number = match self.open.first() {
            Some(&number) => number,
            None => self.add_page(),
        };
        let page = self.pages[number as usize].as_mut().expect("an open page is there");
        let row = page.free.unwrap_or(page.rows.len() as u32);
        let slot = number * ROWS + row;
        let occupied = Row::Occupied(make(slot));
        match page.rows.get_mut(row as usize) {
            Some(free) => {
                if let Row::Free { next } = std::mem::replace(free, occupied) {
                    page.free = next;
                }
            }
            None => page.rows.push(occupied),
        }
        page.occupied += 1;
        self.len += 1;
        if page.occupied == ROWS {
            self.open.remove(&number);
        }
        slot
    }

    fn add_page(&mut self) -> u32 {
        let number = self.gone.pop_first().unwrap_or_else(|| {
            // Memory ends before the numbers do: that would be 2^32 rows.
            let number = u32::try_from(self.pages.len()).expect("fewer than 2^25 pages");
            self.pages.push(None);
            number
        });
        // The first page grows on demand, for tables with few rows.
        let rows = Vec::with_capacity(if number == 0 { 0 } else { ROWS as usize });
        self.pages[number as usize] = Some(Page { rows, free: None, occupied: 0 });
        self.open.insert(number);
        number
    }

    pub(in crate::core) fn remove(&mut self, slot: u32) -> Option<T> {
        let number = slot / ROWS;
        let page = self.pages.get_mut(number as usize)?.as_mut()?;
        let row = page.rows.get_mut((slot % ROWS) as usize)?;
        if let Row::Free { .. } = row {
            return None;
        }
        let freed = std::mem::replace(row, Row::Free { next: page.free });
        page.free = Some(slot % ROWS);
        page.occupied -= 1;
        self.len -= 1;
        if page.occupied == ROWS - 1 {
            self.open.insert(number);
        }
        // The last page with room stays, so that it does not come and go with a single row.
        if page.occupied == 0 && self.open.len() > 1 {
            self.drop_page(number);
        }
        match freed {
            Row::Occupied(row) => Some(row),
            Row::Free { .. } => None,
        }
    }

    fn drop_page(&mut self, number: u32) {
        self.pages[number as usize] = None;
        self.open.remove(&number);
        self.gone.insert(number);
        while let Some(None) = self.pages.last() {
            self.pages.pop();
            self.gone.remove(&(self.pages.len() as u32));
        }
        if self.pages.len() * 4 < self.pages.capacity() {
            self.pages.shrink_to(self.pages.len() * 2);
        }
    }

    pub(in crate::core) fn get(&self, slot: u32) -> Option<&T> {
        let page = self.pages.get((slot / ROWS) as usize)?.as_ref()?;
        match page.rows.get((slot % ROWS) as usize)? {
            Row::Occupied(row) => Some(row),
            Row::Free { .. } => None,
        }
    }

    pub(in crate::core) fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        let page = self.pages.get_mut((slot / ROWS) as usize)?.as_mut()?;
        match page.rows.get_mut((slot % ROWS) as usize)? {
            Row::Occupied(row) => Some(row),
            Row::Free { .. } => None,
        }
    }

    /// Returns all rows with their slots, in order of the slots.
    pub(in crate::core) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..).zip(&self.pages).flat_map(|(number, page)| {
            let rows = page.iter().flat_map(|page| &page.rows);
            (number * ROWS..).zip(rows).filter_map(|(slot, row)| match row {
                Row::Occupied(row) => Some((slot, row)),
                Row::Free { .. } => None,
            })
        })
    }
}

impl<T> Index<u32> for Table<T> {
    type Output = T;

    fn index(&self, slot: u32) -> &T {
        self.get(slot).expect("the slot was handed out and not freed since")
    }
}

impl<T> IndexMut<u32> for Table<T> {
    fn index_mut(&mut self, slot: u32) -> &mut T {
        self.get_mut(slot).expect("the slot was handed out and not freed since")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn pages<T>(table: &Table<T>) -> usize {
        table.pages.iter().flatten().count()
    }

    proptest! {
        #[test]
        fn it_holds_what_a_map_would(steps in prop::collection::vec((any::<bool>(), 0..600_u32), 1..2000)) {
            let (mut table, mut map) = (Table::new(), BTreeMap::new());
            for (insert, number) in steps {
                if insert {
                    let slot = table.insert_with(|slot| (slot, number));
                    prop_assert_eq!(map.insert(slot, (slot, number)), None);
                } else {
                    prop_assert_eq!(table.remove(number), map.remove(&number));
                }
                prop_assert_eq!(table.get(number), map.get(&number));
                prop_assert_eq!(table.len(), map.len());
            }
            prop_assert!(table.iter().eq(map.iter().map(|(&slot, row)| (slot, row))));
            prop_assert!(map.keys().all(|&slot| slot < table.end()));
            // Pages without rows are dropped, except one.
            let full = map.keys().map(|slot| slot / ROWS).collect::<BTreeSet<_>>().len();
            prop_assert!(pages(&table) <= full + 1);
        }
    }

    #[test]
    fn after_a_burst_its_pages_are_gone_and_the_lowest_are_used() {
        let mut table = Table::new();
        table.insert_with(|slot| slot);
        let burst: Vec<u32> = (0..100_000).map(|_| table.insert_with(|slot| slot)).collect();
        for slot in burst {
            assert_eq!(table.remove(slot), Some(slot));
        }
        assert_eq!((table.len(), pages(&table), table.end()), (1, 1, ROWS));
        assert!(table.pages.capacity() < 16);
        assert!(table.insert_with(|slot| slot) < ROWS);
    }
}
