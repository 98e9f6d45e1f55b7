//! A whole message: what is accepted holds together, is written and read again the same, and is read the same
//! by rsip.

use crate::{sip_differential, sip_oracle};

pub(crate) fn run(bytes: &[u8]) {
    if let Some(message) = sip_oracle::read(bytes) {
        sip_oracle::check_writing(&message);
    }
    sip_differential::compare(bytes);
}
