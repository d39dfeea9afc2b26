//! One endpoint's messages, and what is made of the hashes in them.

use crate::{Doctor, Parity};
use kvsched_core::EndpointId;
use kvsched_index::events::vllm::Decoder;
use kvsched_index::events::{EventStream, StreamSettings};

/// An endpoint's event stream, and the doctor who checks that its hashes are ours.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) stream: EventStream,
    pub(crate) doctor: Option<Doctor>,
    decoder: Decoder,
    /// Whether the endpoint's blocks are named by their content, because its hashes are not ours.
    pub(crate) by_content: bool,
}

impl Line {
    pub(crate) fn new(id: EndpointId, settings: StreamSettings, doctor: Option<Doctor>) -> Self {
        let stream = EventStream::new(id, settings);
        Self { stream, doctor, decoder: Decoder::new(), by_content: false }
    }

    /// Shows a message to the doctor. `true` if from now on the endpoint's blocks have to be named
    /// otherwise than before.
    pub(crate) fn examine(&mut self, payload: &[u8]) -> bool {
        let Some(doctor) = &mut self.doctor else { return false };
        // Bytes that cannot be read are the stream's to speak of.
        if let Ok(batch) = self.decoder.decode(payload) {
            doctor.observe_events(batch.events());
        }
        let turns = doctor.parity() == Parity::Broken && !self.by_content;
        self.by_content |= turns;
        turns
    }
}
