//! The story: step by step what the product is for, each step seen where it takes effect.
//!
//! Reads from top to bottom as it is shown. Every claim is checked at the other end of it: at the PBX, at the
//! phone, at the admin socket; the first that does not hold ends the story.

mod call;
mod guard;
mod start;

use std::io::Write;
use std::net::SocketAddr;

use portcullis_lab::{Pbx, Phone};

use super::cast::Extension;
use super::directory::Directory;
use super::frontend::Frontend;
use super::output::{Failed, Output};
use crate::clock::Clock;
use crate::log::Log;

pub(crate) use start::EXPIRES_S;

/// What is left on the stage at the end.
pub(crate) struct Ending {
    /// The frontend, which goes on.
    pub frontend: Frontend,
    /// Where phones connect to it.
    pub server: SocketAddr,
    /// The PBX, which goes on too.
    pub pbx: Pbx,
    /// Phone 1001, still registered.
    pub phone: Phone,
    /// The extension whose phone has left: a real one may take its place.
    pub free: Extension,
}

/// Tells it all.
pub(crate) async fn tell<W: Write>(
    directory: &Directory,
    (clock, log): (Clock, Log),
    out: &mut Output<W>,
) -> Result<Ending, Failed> {
    let start::Scene { papers, frontend, server, pbx, extensions: [first, second] } =
        start::set(directory, (clock, log), out).await?;
    let mut one = start::register(&frontend, &pbx, &first, &papers.first, out).await?;
    let mut two = start::register(&frontend, &pbx, &second, &papers.second, out).await?;
    call::hold(&frontend, &pbx, &mut one, &mut two, out).await?;
    guard::refuse_intruder(&frontend, server, &papers, out).await?;
    guard::limit_burst(&frontend, &pbx, &mut two, out).await?;
    start::leave(&pbx, two, out).await?;
    Ok(Ending { frontend, server, pbx, phone: one, free: second })
}
