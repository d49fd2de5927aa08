//! Follows the pages of a damaged database from a commit's root to its rows.
//!
//! Called by the salvage. redb itself refuses a file for one bad byte in pages that hold no row at all; this walk
//! needs only the pages on the way to a row, and goes on behind one that is damaged. What lies behind that page is
//! remembered as a [`Gap`]: only there may a row be looked for elsewhere. It must never return a row whose checksum
//! does not match.

use std::collections::{BTreeMap, BTreeSet};

use crate::frame::{HEAD_KEY, Head, META, SCHEMA_KEY, Stored, decode_schema, decode_value};
use crate::header::{self, Geometry, HEADER_BYTES, Slot};
use crate::inspect::Finding;
use crate::pages::{BRANCH, Branch, Definition, LEAF, Leaf, PageNumber, Pages};
use crate::{SCHEMA_VERSION, Table};

use redb::TableHandle as _;

/// Levels of a tree. Four hold a billion rows; a damaged page may lead down for ever.
const MOST_LEVELS: usize = 64;

/// Keys that cannot be seen from the root: above the one, up to and with the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    above: Option<Vec<u8>>,
    to: Option<Vec<u8>>,
}

impl Gap {
    pub(crate) const EVERYTHING: Self = Self { above: None, to: None };

    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        Keys { above: self.above.as_deref(), to: self.to.as_deref() }.contain(key)
    }
}

/// What the tree holds of one table.
#[derive(Debug, Default)]
pub(crate) struct TreeTable {
    pub(crate) rows: BTreeMap<Vec<u8>, Stored>,
    /// How many rows the table says it has; unknown if not even that is readable.
    pub(crate) expected: Option<u64>,
    /// Keys, as read, of rows that do not match their checksum.
    pub(crate) damaged: BTreeSet<Vec<u8>>,
    pub(crate) gaps: Vec<Gap>,
}

/// What can be seen from one commit's root.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    pub(crate) head: Option<Head>,
    pub(crate) schema: Option<u32>,
    pub(crate) tables: BTreeMap<Table, TreeTable>,
}

/// `None`: not even the table of tables is readable.
pub(crate) fn read(pages: &mut Pages<'_>, slot: Slot) -> Result<Option<Tree>, Finding> {
    let Some(header) = pages.read(0, HEADER_BYTES)? else { return Ok(None) };
    let (Some(geometry), Some(root)) = (header::geometry(&header), header::root(&header, slot)) else {
        return Ok(None);
    };
    // A handful of tables: one leaf.
    let Some(definitions) = definitions(pages, geometry, root)? else { return Ok(None) };
    let mut tree = Tree::default();
    if let Some(Definition { root: Some(root), .. }) = definitions.get(META.name()) {
        read_meta(pages, geometry, *root, &mut tree)?;
    }
    if let Some(version) = tree.schema.filter(|version| *version > SCHEMA_VERSION) {
        return Err(Finding::Newer(version));
    }
    for table in Table::ALL {
        let Some(definition) = definitions.get(table.as_str()) else { continue };
        let mut walk = Walk { pages, geometry, table, seen: BTreeSet::new(), found: TreeTable::default() };
        walk.found.expected = definition.rows;
        if let Some(root) = definition.root {
            walk.descend(root, Keys { above: None, to: None }, 0)?;
        } else if definition.rows.is_none() {
            walk.found.gaps.push(Gap::EVERYTHING);
        }
        tree.tables.insert(table, walk.found);
    }
    // A commit of this store always has a head and its tables: what has neither is some other page.
    Ok((tree.head.is_some() || !tree.tables.is_empty()).then_some(tree))
}

fn read_page(
    pages: &mut Pages<'_>,
    geometry: Geometry,
    page: PageNumber,
) -> Result<Option<Vec<u8>>, Finding> {
    match page.span(geometry) {
        Some((start, bytes)) => pages.read(start, bytes),
        None => Ok(None),
    }
}

fn definitions(
    pages: &mut Pages<'_>,
    geometry: Geometry,
    root: PageNumber,
) -> Result<Option<BTreeMap<String, Definition>>, Finding> {
    let bytes = read_page(pages, geometry, root)?;
    let Some(leaf) = bytes.as_deref().and_then(Leaf::parse) else { return Ok(None) };
    let named = (0..leaf.pairs).filter_map(|index| {
        let (name, definition) = leaf.pair(index)?;
        Some((String::from_utf8(name.to_vec()).ok()?, Definition::parse(definition)?))
    });
    Ok(Some(named.collect()))
}

fn read_meta(
    pages: &mut Pages<'_>,
    geometry: Geometry,
    root: PageNumber,
    tree: &mut Tree,
) -> Result<(), Finding> {
    let bytes = read_page(pages, geometry, root)?;
    let Some(leaf) = bytes.as_deref().and_then(Leaf::parse) else { return Ok(()) };
    for (key, record) in (0..leaf.pairs).filter_map(|index| leaf.pair(index)) {
        if key == HEAD_KEY.as_bytes() {
            tree.head = Head::decode(record);
        } else if key == SCHEMA_KEY.as_bytes() {
            tree.schema = decode_schema(record);
        }
    }
    Ok(())
}

/// What a page may hold, by the pages above it.
#[derive(Clone, Copy)]
struct Keys<'k> {
    above: Option<&'k [u8]>,
    to: Option<&'k [u8]>,
}

impl Keys<'_> {
    fn contain(self, key: &[u8]) -> bool {
        self.above.is_none_or(|above| key > above) && self.to.is_none_or(|to| key <= to)
    }
}

struct Walk<'a, 'p> {
    pages: &'a mut Pages<'p>,
    geometry: Geometry,
    table: Table,
    /// Where pages that have been read begin: one that is reached twice leads in circles.
    seen: BTreeSet<u64>,
    found: TreeTable,
}

impl Walk<'_, '_> {
    fn descend(&mut self, page: PageNumber, keys: Keys<'_>, level: usize) -> Result<(), Finding> {
        let is_new =
            page.span(self.geometry).is_some_and(|(start, _)| level < MOST_LEVELS && self.seen.insert(start));
        let bytes = if is_new { read_page(self.pages, self.geometry, page)? } else { None };
        let Some(bytes) = bytes else {
            self.miss(keys);
            return Ok(());
        };
        // Rows vouch for themselves, so the type of the page is asked last.
        if Leaf::parse(&bytes).is_some_and(|leaf| self.take(leaf, keys)) {
            return Ok(());
        }
        let kind = bytes.first().copied();
        match Branch::parse(&bytes) {
            Some(branch) if kind == Some(BRANCH) || branch.is_sound(self.geometry, self.pages.len) => {
                for index in 0..branch.children() {
                    let above = if index == 0 { keys.above } else { branch.key(index - 1).or(keys.above) };
                    let to = branch.key(index).or(keys.to);
                    match branch.child(index) {
                        Some(child) => self.descend(child, Keys { above, to }, level + 1)?,
                        None => self.miss(Keys { above, to }),
                    }
                }
            }
            _ => {
                if let Some(leaf) = Leaf::parse(&bytes).filter(|_| kind == Some(LEAF)) {
                    let keys = (0..leaf.pairs).filter_map(|index| Some(leaf.pair(index)?.0.to_vec()));
                    self.found.damaged.extend(keys);
                }
                self.miss(keys);
            }
        }
        Ok(())
    }

    /// Takes the rows of a leaf, if it is one and belongs here. What it should hold and does not is a gap.
    fn take(&mut self, leaf: Leaf<'_>, keys: Keys<'_>) -> bool {
        let mut rows = Vec::new();
        let mut damaged = Vec::new();
        for index in 0..leaf.pairs {
            let Some((key, framed)) = leaf.pair(index) else { continue };
            match decode_value(self.table, key, framed) {
                // Sound rows in a wrong place: an old page, to which a damaged number leads.
                Some(_) if !keys.contain(key) => return false,
                Some(stored) => rows.push((key.to_vec(), stored)),
                None => damaged.push(key.to_vec()),
            }
        }
        if rows.is_empty() {
            return false;
        }
        if rows.len() < leaf.pairs {
            self.miss(keys);
        }
        self.found.rows.extend(rows);
        self.found.damaged.extend(damaged);
        true
    }

    fn miss(&mut self, keys: Keys<'_>) {
        let owned = |key: Option<&[u8]>| key.map(<[u8]>::to_vec);
        self.found.gaps.push(Gap { above: owned(keys.above), to: owned(keys.to) });
    }
}
