//! The console: pages for people.

use std::sync::Arc;

use axum::{Router, response::Html, routing::get};

use crate::Control;

/// The console's pages.
pub fn router(control: Arc<Control>) -> Router {
    let page = Html(format!("<!doctype html><title>Skerry</title><h1>Skerry</h1><p>{}", control.url()));
    Router::new().route("/", get(async || page))
}
