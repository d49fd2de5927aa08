//! The open store: commits, and reopening after a full disk.
//!
//! Owned, as a `Box<dyn Store>`, by the coordinator's owner of state. Every commit is two-phase, so a power cut
//! leaves the commit before it or the whole of it, and carries redb's quick-repair record, so that opening after a
//! crash does not scan the file. It must never touch the file again once it is broken.
//!
//! ```text
//!          commit ok             write or resize: out of space
//!          +------+             +--------------------------+
//!          |      v             |                          v
//!          +----- OPEN ---------+       reopen ok         FULL
//!                 |    ^-------------------------------- --+
//!                 | failed sync, any other failure,        | the same
//!                 | the file's name is not ours any more   |
//!                 +---------------------> BROKEN <---------+
//!                                       (terminal)
//! ```
//!
//! The exporter may find the same, on a thread of its own: what it finds holds here from the next call on.

use std::sync::Arc;

use hoist_domain::{Epoch, Position, Revision};
use redb::{Builder, Database, ReadableDatabase, StorageBackend, WriteTransaction};

use crate::backend::{Watch, Watched};
use crate::disk::{Disk, STORE, STORE_BUILDING};
use crate::fault::{Call, CommitError, Fault};
use crate::frame::{HEAD_KEY, Head, META, SCHEMA_KEY, Stored, definition, encode_schema, encode_value};
use crate::standing::Standing;
use crate::{Batch, OpenOptions, SCHEMA_VERSION, Store, Table, Write};

enum State {
    Open(Connection),
    /// No database is open: [`Store::reopen`] opens it.
    Full(Fault),
    /// Terminal. No database is open, and none is opened again.
    Broken(Fault),
}

/// The database and the record of what its file has met.
pub(crate) struct Connection {
    db: Database,
    watch: Arc<Watch>,
}

impl Connection {
    /// Opens, or creates in an empty file. The file has been verified: redb trusts what it reads.
    pub(crate) fn open(
        file: &'static str,
        backend: Arc<dyn StorageBackend>,
        options: OpenOptions,
    ) -> Result<Self, Fault> {
        let watch = Watch::new(file);
        let watched = Watched::new(backend, watch.clone());
        let cache_bytes = usize::try_from(options.cache.0).unwrap_or(usize::MAX);
        match Builder::new().set_cache_size(cache_bytes).create_with_backend(watched) {
            Ok(db) => Ok(Self { db, watch }),
            Err(error) => {
                watch.seal();
                Err(watch.verdict(&error.into()))
            }
        }
    }

    /// Runs one transaction. After an error the file is sealed, and the connection good for nothing but dropping.
    fn write(&self, fill: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>) -> Result<(), Fault> {
        self.watch.clear();
        let run = || {
            let mut transaction = self.db.begin_write()?;
            transaction.set_two_phase_commit(true);
            transaction.set_quick_repair(true);
            if let Err(error) = fill(&transaction) {
                self.watch.seal();
                return Err(error);
            }
            transaction.commit().map_err(redb::Error::from)
        };
        run().map_err(|error: redb::Error| {
            self.watch.seal();
            self.watch.verdict(&error)
        })
    }

    /// The first write of an opening: a new head, and what an older layout lacks.
    pub(crate) fn write_head(&self, head: Head) -> Result<(), Fault> {
        self.write(|transaction| {
            transaction.open_table(META)?.insert(SCHEMA_KEY, encode_schema(SCHEMA_VERSION).as_slice())?;
            for table in Table::ALL {
                transaction.open_table(definition(table))?;
            }
            put_head(transaction, head)
        })
    }

    /// Everything a new store starts with, in one transaction: a store that has a head is complete.
    pub(crate) fn fill_new<'a>(
        &self,
        head: Head,
        rows: impl Iterator<Item = &'a Stored>,
    ) -> Result<(), Fault> {
        self.write(|transaction| {
            transaction.open_table(META)?.insert(SCHEMA_KEY, encode_schema(SCHEMA_VERSION).as_slice())?;
            let mut rows = rows.peekable();
            for table in Table::ALL {
                let mut open = transaction.open_table(definition(table))?;
                while let Some(Stored { row, written }) = rows.next_if(|stored| stored.row.table == table) {
                    let framed = encode_value(table, &row.key, *written, &row.value);
                    open.insert(row.key.as_slice(), framed.as_slice())?;
                }
            }
            put_head(transaction, head)
        })
    }

    fn read_head(&self) -> Result<Head, Fault> {
        let read = || -> Result<Option<Head>, redb::Error> {
            let transaction = self.db.begin_read()?;
            let meta = transaction.open_table(META)?;
            Ok(meta.get(HEAD_KEY)?.and_then(|record| Head::decode(record.value())))
        };
        match read() {
            Ok(Some(head)) => Ok(head),
            Ok(None) => Err(Fault::database(STORE, "its newest commit is not readable")),
            Err(error) => Err(self.watch.verdict(&error)),
        }
    }
}

fn put_head(transaction: &WriteTransaction, head: Head) -> Result<(), redb::Error> {
    transaction.open_table(META)?.insert(HEAD_KEY, head.encode().as_slice())?;
    Ok(())
}

/// Builds a complete, durable database beside the one that stands, then puts it in its place.
pub(crate) fn build<'a>(
    disk: &dyn Disk,
    options: OpenOptions,
    head: Head,
    rows: impl Iterator<Item = &'a Stored>,
    before_promotion: impl FnOnce() -> Result<(), Fault>,
) -> Result<Connection, Fault> {
    let connection = Connection::open(STORE_BUILDING, disk.create_store()?, options)?;
    connection.fill_new(head, rows)?;
    before_promotion()?;
    disk.promote_store()?;
    Ok(connection)
}

pub(crate) struct Engine {
    // Before the disk, whose lock is held until the database is closed.
    state: State,
    disk: Arc<dyn Disk>,
    standing: Arc<Standing>,
    options: OpenOptions,
    epoch: Epoch,
}

impl Engine {
    pub(crate) fn new(
        connection: Connection,
        disk: Arc<dyn Disk>,
        standing: Arc<Standing>,
        options: OpenOptions,
        epoch: Epoch,
    ) -> Self {
        Self { state: State::Open(connection), disk, standing, options, epoch }
    }

    /// What the exporter has found holds here too: the database is closed, and closing it writes nothing.
    fn heed_standing(&mut self) {
        let Some(fault) = self.standing.ended() else { return };
        if let State::Open(connection) = &self.state {
            connection.watch.seal();
        }
        self.state = State::Broken(fault);
    }

    /// Leaves the open state, closing the database. Its file is sealed, so closing writes nothing.
    fn fail(&mut self, fault: Fault) -> CommitError {
        match CommitError::from_fault(fault) {
            CommitError::Full(fault) => {
                self.state = State::Full(fault.clone());
                CommitError::Full(fault)
            }
            CommitError::Broken(fault) => {
                let fault = self.standing.end(fault);
                self.state = State::Broken(fault.clone());
                CommitError::Broken(fault)
            }
        }
    }

    fn connect(&self) -> Result<(Connection, Revision), Fault> {
        self.disk.check_held()?;
        let gone = || Fault::new(Call::Open, STORE, &std::io::ErrorKind::NotFound.into());
        let backend = self.disk.open_store()?.ok_or_else(gone)?;
        let connection = Connection::open(STORE, backend, self.options)?;
        let head = connection.read_head()?;
        // A failed commit may lie complete in the slot that does not count, where the next start would take it for
        // one that was in flight. The caller is about to hear that it did not land, so it is overwritten; and a
        // reopening that succeeds has shown that there is room.
        connection.write_head(head)?;
        Ok((connection, head.revision))
    }
}

impl Store for Engine {
    fn commit(&mut self, batch: &Batch) -> Result<(), CommitError> {
        self.heed_standing();
        let connection = match &self.state {
            State::Open(connection) => connection,
            State::Full(fault) => return Err(CommitError::Full(fault.clone())),
            State::Broken(fault) => return Err(CommitError::Broken(fault.clone())),
        };
        let head = Head { epoch: self.epoch, revision: batch.revision, service_time: batch.service_time };
        let held = self.disk.check_held().inspect_err(|_| connection.watch.seal());
        let written = held.and_then(|()| {
            connection.write(|transaction| {
                apply(transaction, head, &batch.writes)?;
                put_head(transaction, head)
            })
        });
        // Again, since a file whose name was taken away meanwhile keeps nothing.
        let kept = written.and_then(|()| self.disk.check_held().inspect_err(|_| connection.watch.seal()));
        kept.map_err(|fault| self.fail(fault))
    }

    fn reopen(&mut self) -> Result<Revision, CommitError> {
        self.heed_standing();
        match &self.state {
            State::Open(connection) => {
                let head = connection.read_head().inspect_err(|_| connection.watch.seal());
                head.map(|head| head.revision).map_err(|fault| self.fail(fault))
            }
            State::Broken(fault) => Err(CommitError::Broken(fault.clone())),
            State::Full(_) => match self.connect() {
                Ok((connection, revision)) => {
                    self.state = State::Open(connection);
                    Ok(revision)
                }
                Err(fault) => Err(self.fail(fault)),
            },
        }
    }
}

impl Drop for Engine {
    /// Closing a database writes to its file, which may be another server's by now.
    fn drop(&mut self) {
        self.heed_standing();
    }
}

/// One table at a time: writes to one key stay in order, and order between tables has no meaning.
fn apply(transaction: &WriteTransaction, head: Head, writes: &[Write]) -> Result<(), redb::Error> {
    let written = Position { epoch: head.epoch, revision: head.revision };
    for table in Table::ALL {
        let mut of_table = writes.iter().filter(|write| write.table() == table).peekable();
        if of_table.peek().is_none() {
            continue;
        }
        let mut open = transaction.open_table(definition(table))?;
        for write in of_table {
            match write {
                Write::Put(row) => {
                    let framed = encode_value(table, &row.key, written, &row.value);
                    open.insert(row.key.as_slice(), framed.as_slice())?;
                }
                Write::Delete { key, .. } => {
                    open.remove(key.as_slice())?;
                }
            }
        }
    }
    Ok(())
}

impl Write {
    fn table(&self) -> Table {
        match self {
            Self::Put(row) => row.table,
            Self::Delete { table, .. } => *table,
        }
    }
}
