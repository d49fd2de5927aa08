//! The coordinator: owns the state, the store and every decision.
//!
//! Read in this order: [`control`] (the one owner), [`watch`] (the state as a stream), [`operations`] (long work),
//! [`catalog`] (what is on disk), [`cache`] (what is in RAM), [`fleet`] and [`residency`] (what is on devices), [`api`] (the gRPC edge), [`listener`] (what stands before it), [`server`] (how it begins and ends).

pub mod api;
pub mod cache;
pub mod catalog;
pub mod control;
pub mod fleet;
pub mod listener;
pub mod operations;
pub mod residency;
pub mod server;
pub mod settings;
pub mod watch;

pub use server::{Process, Ready, ServeError, serve};
pub use settings::{Loaded, Settings};
