//! Executors: they carry out what the owner started, and report.
//!
//! The owner decides that an operation runs; [`Runner`] runs it on a task of its own with a cancel token, a deadline
//! and a progress cell, and sends exactly one report. How far running work is stands in the [`ProgressBoard`], from
//! which everybody samples; it is never part of the state. [`Waiters`] knows who waits for what.

mod probe;
mod progress;
mod runner;
mod waiters;

pub use progress::{ProgressBoard, ProgressCell};
pub use runner::{Directories, Executors, Runner};
pub use waiters::{Waiters, Waiting};
