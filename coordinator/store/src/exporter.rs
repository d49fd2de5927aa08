//! Replaces the export, on whatever thread its owner has for that.
//!
//! Apart from the engine, so that writing a hundred thousand rows keeps nobody from committing; what they share is
//! the directory and its [`Standing`]. Only one exists for each open store. It must never write to a directory that
//! is not held any more, nor replace an export by an older one.

use std::io;
use std::sync::Arc;

use hoist_domain::{Epoch, Revision};

use crate::disk::{Disk, EXPORT};
use crate::fault::{ExportError, Fault};
use crate::frame::Head;
use crate::standing::Standing;
use crate::{ExportHeader, Exporter, Row, export};

pub(crate) struct FileExporter {
    disk: Arc<dyn Disk>,
    standing: Arc<Standing>,
    epoch: Epoch,
    /// What the export of this epoch holds, once there is one.
    newest: Option<Revision>,
}

impl FileExporter {
    pub(crate) fn new(disk: Arc<dyn Disk>, standing: Arc<Standing>, epoch: Epoch) -> Self {
        Self { disk, standing, epoch, newest: None }
    }

    fn check(&self) -> Result<(), Fault> {
        if let Some(fault) = self.standing.ended() {
            return Err(fault);
        }
        self.disk.check_held().map_err(|fault| self.standing.end(fault))
    }
}

impl Exporter for FileExporter {
    fn export(
        &mut self,
        header: ExportHeader,
        rows: &mut dyn Iterator<Item = Row>,
    ) -> Result<(), ExportError> {
        if self.newest.is_some_and(|newest| header.revision < newest) {
            return Ok(());
        }
        self.check().map_err(ExportError::Broken)?;
        let head = Head { epoch: self.epoch, revision: header.revision, service_time: header.service_time };
        let mut ended = None;
        let written = self.disk.replace(EXPORT, &mut |file| {
            // Cut short, it is not kept: see below.
            let mut rows = rows.take_while(|_| self.standing.ended().is_none());
            export::encode(head, &mut rows, file)?;
            // That took a while, and what comes next takes the place of what is there.
            self.check().map_err(|fault| {
                ended = Some(fault);
                io::Error::other("the store has ended meanwhile")
            })
        });
        match (ended, written) {
            (Some(fault), _) => Err(ExportError::Broken(fault)),
            (None, Err(fault)) => Err(ExportError::Failed(fault)),
            (None, Ok(())) => {
                self.newest = Some(header.revision);
                Ok(())
            }
        }
    }
}
