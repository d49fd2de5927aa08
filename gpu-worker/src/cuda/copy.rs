//! Bytes of a segment to a slab: through pinned buffers that threads fill, or straight from the segment's own pages.
//!
//! ```text
//!  ring:        files ──read──► buffer 0 ─┐                                     registered pages: ─┐
//!   (threads)         ──read──► buffer 1 ─┼─► lanes ─► slab                                pieces ─┼─► lanes ─► slab
//!                     ──read──► …        ─┘     └─ event: the buffer is free again                 ─┘
//! ```
//! The thread that owns the device begins all copies and waits for them; the others read files and know nothing of a device.
//! Nothing returns before the lanes were waited for, however it ends.
#![expect(unsafe_code, reason = "a copy that is begun and not waited for is a promise about its bytes")]

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread;

use hoist_domain::Bytes;
use hoist_segment::Attached;

use super::context::Context;
use super::driver::Fault;
use super::lanes::{Event, Lanes, Pinned};
use super::places::{Image, Reader};
use super::slab::Slab;

/// What one buffer holds: large enough that the bus does not notice its ends, small enough that the first is soon on its way.
const CHUNK: usize = 8 << 20;

/// Pieces of registered pages, between two looks at whether it is still wanted.
const PIECE: u64 = 32 << 20;

/// Threads that fill buffers, at most: one reads some 8 GB/s from tmpfs, the bus takes some 50.
const MOST_FILLERS: usize = 8;

/// Why a copy came to nothing.
#[derive(Debug)]
pub(crate) enum Halt {
    NotWanted,
    /// The segment's.
    Read(io::Error),
    Device(Fault),
    Threads(io::Error),
}

impl From<Fault> for Halt {
    fn from(fault: Fault) -> Self {
        Self::Device(fault)
    }
}

/// Told how many bytes are there; says whether to go on.
pub(crate) type GoOn<'a> = &'a mut dyn FnMut(Bytes) -> bool;

/// Waits for the lanes, however a copy is left: by an error, or by a panic.
struct Drain<'a>(&'a Lanes);

impl Drop for Drain<'_> {
    fn drop(&mut self) {
        // What went wrong was answered, or is by the next call.
        let _ = self.0.wait();
    }
}

/// Pinned buffers, and who fills them.
#[derive(Debug)]
pub(crate) struct Ring {
    buffers: Vec<(Pinned, Event)>,
    fillers: usize,
}

/// A buffer that was filled: its number, its bytes, and which chunk they are.
type Full<'a> = (usize, &'a mut [u8], u64);

impl Ring {
    /// For a machine with so many processors.
    ///
    /// # Errors
    /// The driver's.
    pub(crate) fn open(context: &Rc<Context>, processors: usize) -> Result<Self, Fault> {
        let fillers = (processors / 2).clamp(1, MOST_FILLERS);
        // Two each: one is filled while the other is on its way; and two more on the lanes.
        let count = 2 * fillers + 2;
        let buffer = |_| Ok((Pinned::take(context, CHUNK)?, Event::create(context)?));
        Ok(Self { buffers: (0..count).map(buffer).collect::<Result<_, Fault>>()?, fillers })
    }

    /// What it holds of the machine's memory.
    pub(crate) fn size(&self) -> Bytes {
        Bytes((self.buffers.len() * CHUNK) as u64)
    }

    /// Copies these bytes of an image; what is elsewhere in the slab stays as it is.
    ///
    /// # Errors
    /// See [`Halt`]. Any of these bytes may be there then.
    pub(crate) fn copy(
        &mut self,
        lanes: &Lanes,
        slab: &Slab,
        (image, window): (&Image, Range<u64>),
        read: Reader<'_>,
        go_on: GoOn<'_>,
    ) -> Result<(), Halt> {
        let chunks = window.end.saturating_sub(window.start).div_ceil(CHUNK as u64);
        if chunks == 0 {
            return Ok(());
        }
        let (mut buffers, mut events) = (Vec::new(), Vec::new());
        for (pinned, event) in &mut self.buffers {
            buffers.push(pinned.bytes());
            events.push(&*event);
        }
        let mut begun =
            Begun { lanes, slab, window: window.clone(), events, under_way: VecDeque::new(), done: 0 };
        let _drain = Drain(lanes);
        if chunks <= 1 {
            // A thread takes longer to start than this to copy.
            let Some(buffer) = buffers.into_iter().next() else { return Ok(()) };
            if !go_on(Bytes(0)) {
                return Err(Halt::NotWanted);
            }
            image.fill(window.start, begun.used(buffer, 0), read).map_err(Halt::Read)?;
            begun.begin((0, buffer, 0))?;
        } else {
            let fillers = usize::try_from(chunks).unwrap_or(usize::MAX).min(self.fillers);
            in_parallel(&mut begun, buffers, fillers, chunks, image, read, go_on)?;
        }
        Ok(lanes.wait()?)
    }
}

/// What was begun, and not waited for.
struct Begun<'a> {
    lanes: &'a Lanes,
    slab: &'a Slab,
    /// Of the image: where the first chunk begins, and where the last one ends.
    window: Range<u64>,
    /// One for each buffer.
    events: Vec<&'a Event>,
    /// The oldest first.
    under_way: VecDeque<Full<'a>>,
    /// Bytes that are there.
    done: u64,
}

impl<'a> Begun<'a> {
    /// What of a buffer a chunk fills.
    fn used<'b>(&self, buffer: &'b mut [u8], chunk: u64) -> &'b mut [u8] {
        used(&self.window, chunk, buffer)
    }

    fn begin(&mut self, (number, buffer, chunk): Full<'a>) -> Result<(), Halt> {
        let lane = usize::try_from(chunk % 2).unwrap_or_default();
        let bytes = self.used(&mut *buffer, chunk);
        // SAFETY: the bytes are a ring's, which lives as long as the device and waits before it goes. The buffer is kept in
        // `under_way`, which nobody writes to, until its event was waited for (`landed`); if this is left before, the lanes are
        // waited for by `Drain` before anybody has the ring again.
        unsafe { self.lanes.begin(lane, self.slab, place(&self.window, chunk), bytes) }?;
        if let Some(event) = self.events.get(number) {
            self.lanes.record(lane, event)?;
        }
        self.under_way.push_back((number, buffer, chunk));
        Ok(())
    }

    /// The oldest buffer that is under way, once it has arrived. None: none is; or, unless to wait, it has not.
    fn landed(&mut self, wait: bool) -> Result<Option<(usize, &'a mut [u8])>, Halt> {
        let Some((number, ..)) = self.under_way.front() else { return Ok(None) };
        if let Some(event) = self.events.get(*number) {
            if wait {
                event.wait()?;
            } else if !event.is_done()? {
                return Ok(None);
            }
        }
        let Some((number, buffer, chunk)) = self.under_way.pop_front() else { return Ok(None) };
        self.done += self.used(&mut *buffer, chunk).len() as u64;
        Ok(Some((number, buffer)))
    }
}

/// Where a chunk of a window begins in its image.
const fn place(window: &Range<u64>, chunk: u64) -> u64 {
    window.start.saturating_add(chunk.saturating_mul(CHUNK as u64))
}

/// What of a buffer a chunk of a window fills.
fn used<'b>(window: &Range<u64>, chunk: u64, buffer: &'b mut [u8]) -> &'b mut [u8] {
    let left = window.end.saturating_sub(place(window, chunk));
    let length = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
    buffer.get_mut(..length).unwrap_or_default()
}

/// Threads fill, this one copies.
fn in_parallel<'a>(
    begun: &mut Begun<'a>,
    buffers: Vec<&'a mut [u8]>,
    fillers: usize,
    chunks: u64,
    image: &Image,
    read: Reader<'_>,
    go_on: GoOn<'_>,
) -> Result<(), Halt> {
    thread::scope(|scope| {
        let (filled, full) = mpsc::channel();
        let mut empty = Vec::new();
        for first in 0..fillers {
            let (give, take) = mpsc::channel();
            let filler = Filler {
                first,
                step: fillers,
                chunks,
                window: begun.window.clone(),
                image,
                read,
                filled: filled.clone(),
            };
            let named = thread::Builder::new().name(format!("filler-{first}"));
            named.spawn_scoped(scope, move || filler.run(&take)).map_err(Halt::Threads)?;
            empty.push(give);
        }
        // They end when nobody gives them buffers any more, and this one sees it when all have.
        drop(filled);
        for (number, buffer) in buffers.into_iter().enumerate() {
            give(&empty, number, buffer);
        }
        for _ in 0..chunks {
            let next = loop {
                match full.try_recv() {
                    Ok(next) => break next,
                    Err(TryRecvError::Disconnected) => return Err(ended()),
                    Err(TryRecvError::Empty) => {}
                }
                match begun.landed(true)? {
                    Some((number, buffer)) => give(&empty, number, buffer),
                    None => break full.recv().map_err(|_| ended())?,
                }
            };
            if !go_on(Bytes(begun.done)) {
                return Err(Halt::NotWanted);
            }
            begun.begin(next.map_err(Halt::Read)?)?;
            while let Some((number, buffer)) = begun.landed(false)? {
                give(&empty, number, buffer);
            }
        }
        Ok(())
    })
}

/// Each buffer has its filler.
fn give<'a>(empty: &[Sender<(usize, &'a mut [u8])>], number: usize, buffer: &'a mut [u8]) {
    if let Some(filler) = empty.get(number % empty.len().max(1)) {
        // One that has filled its last chunk needs none.
        let _ = filler.send((number, buffer));
    }
}

fn ended() -> Halt {
    Halt::Threads(io::Error::other("a thread that reads the segment has ended by itself"))
}

/// Fills every so manyth chunk.
struct Filler<'a, 'b> {
    first: usize,
    step: usize,
    chunks: u64,
    window: Range<u64>,
    image: &'b Image,
    read: Reader<'b>,
    filled: Sender<io::Result<Full<'a>>>,
}

impl<'a> Filler<'a, '_> {
    fn run(self, empty: &Receiver<(usize, &'a mut [u8])>) {
        for chunk in (self.first as u64..self.chunks).step_by(self.step) {
            let Ok((number, buffer)) = empty.recv() else { return };
            let room = used(&self.window, chunk, buffer);
            let read = self.image.fill(place(&self.window, chunk), room, self.read);
            if self.filled.send(read.map(|()| (number, buffer, chunk))).is_err() {
                return;
            }
        }
    }
}

/// Copies an image straight from a segment's pages.
///
/// # Errors
/// See [`Halt`]. What is in the slab then is no image.
///
/// # Safety
/// All of the segment's pages are registered, in windows of so many bytes, and stay so until this returns.
pub(crate) unsafe fn from_pages(
    lanes: &Lanes,
    slab: &Slab,
    image: &Image,
    (segment, window): (&Attached, u64),
    go_on: GoOn<'_>,
) -> Result<(), Halt> {
    let files: Vec<&[u8]> = segment.files().collect();
    let _drain = Drain(lanes);
    // Between tensors, too.
    lanes.clear(slab, 0)?;
    let (mut done, mut number) = (0, 0);
    for run in image.runs() {
        let mut from = 0;
        while from < run.length {
            if !go_on(Bytes(done)) {
                return Err(Halt::NotWanted);
            }
            let offset = run.offset + from;
            let length = PIECE.min(run.length - from).min(window - offset % window.max(1));
            let bytes = piece(&files, run.file, offset, length)
                .ok_or_else(|| Halt::Read(io::Error::from(io::ErrorKind::UnexpectedEof)))?;
            // SAFETY: the bytes are the segment's, mapped for reading alone as long as `segment` is borrowed; the lanes are
            // waited for before this returns.
            unsafe { lanes.begin(number, slab, run.at + from, bytes) }?;
            (from, done, number) = (from + length, done + length, number + 1);
        }
    }
    Ok(lanes.wait()?)
}

fn piece<'a>(files: &[&'a [u8]], file: usize, offset: u64, length: u64) -> Option<&'a [u8]> {
    let (from, to) = (usize::try_from(offset).ok()?, usize::try_from(offset.checked_add(length)?).ok()?);
    files.get(file)?.get(from..to)
}
