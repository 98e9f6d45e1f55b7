//! Asking a STUN server where our datagrams come from: the request, and the checked answer.
//!
//! A thin wrapper about stun-rs. What that leaves to its caller is checked here: that nothing follows the
//! message, class, method and transaction, that nothing unknown must be understood, and FINGERPRINT.
//! Never checks integrity, because a plain request asks for none.

use std::net::SocketAddr;

use stun_rs::attributes::stun::XorMappedAddress;
use stun_rs::methods::BINDING;
use stun_rs::{
    MessageClass, MessageDecoderBuilder, MessageEncoderBuilder, StunMessageBuilder, TransactionId,
};

use super::attributes::Survey;
use super::{HEADER_LEN, MESSAGE_MAX, is_stun};

/// A plain Binding request. The caller draws `transaction_id`, unguessably.
pub fn binding_request(transaction_id: [u8; 12]) -> [u8; HEADER_LEN] {
    let message = StunMessageBuilder::new(BINDING, MessageClass::Request)
        .with_transaction_id(TransactionId::from(transaction_id))
        .build();
    let mut request = [0; HEADER_LEN];
    let written = MessageEncoderBuilder::default().build().encode(&mut request, &message);
    debug_assert!(written.is_ok_and(|size| size == HEADER_LEN));
    request
}

/// The address that a server saw, if `response` is a sound success answer to the request of that transaction.
pub fn mapped_address(response: &[u8], transaction_id: &[u8; 12]) -> Option<SocketAddr> {
    if response.len() > MESSAGE_MAX || !is_stun(response) {
        return None;
    }
    let survey = Survey::of(response)?;
    let (message, size) = MessageDecoderBuilder::default().build().decode(response).ok()?;
    let answers = size == response.len()
        && survey.unknown().is_empty()
        && message.class() == MessageClass::SuccessResponse
        && message.method() == BINDING
        && message.transaction_id().as_bytes() == transaction_id;
    if !answers {
        return None;
    }
    let address = message.get::<XorMappedAddress>()?.as_xor_mapped_address().ok()?;
    Some(*address.socket_address())
}
