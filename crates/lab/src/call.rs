//! A phone's end of a call that is up: its audio, and what the other told of himself.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::audio::{self, Heard, Tone};
use crate::fault::Fault;
use crate::media::Media;
use crate::sdp::{self, Description};
use crate::user_agent::Dialog;

/// A call that is up, until its phone hangs up or hears the other do so.
pub struct Call {
    pub(crate) media: Media,
    pub(crate) dialog: Dialog,
    remote: Description,
}

impl Call {
    /// The audio of a call that was picked up.
    pub(crate) fn begin(media: Media, dialog: Dialog) -> Result<Self, Fault> {
        let remote = sdp::read(&dialog.remote_media);
        let remote = remote.ok_or_else(|| Fault::unlike("a phone heard of no audio"))?;
        Ok(Self { media, dialog, remote })
    }

    /// How the other describes his media.
    pub fn remote(&self) -> &Description {
        &self.remote
    }

    /// Every address that stands anywhere in the message that brought the other's description.
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        sdp::addresses(&self.dialog.message)
    }

    /// How many ICE candidates the phone has offered.
    pub fn candidates(&self) -> usize {
        self.media.candidates().lines.len()
    }

    /// Says one tone and listens for another, so many packets of each, at the pace of speech.
    pub async fn talk(&mut self, mine: Tone, theirs: Tone, packets: u16) -> Result<Heard, Fault> {
        audio::talk(&mut self.media, self.remote.audio, mine, theirs, packets).await
    }
}
