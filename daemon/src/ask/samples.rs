//! More local samples of the same prompt: a model that knows says the same again.

use futures_util::StreamExt;
use futures_util::future::join_all;
use sha2::{Digest as _, Sha256};
use synesis_privacy::Message;
use synesis_proto::runtime::v1::GenerateRequest;
use synesis_proto::runtime::v1::generate_event::Event;
use ulid::Ulid;

use super::{Ask, AskError, Asker};
use crate::model::ModelError;
use crate::route::overlap;

/// Randomness of the samples: enough for a model that guesses to guess differently.
const TEMPERATURE: f32 = 0.8;
/// Longest sample, in tokens: a beginning is enough to tell.
const LONGEST: u32 = 64;

impl Asker {
    /// Draws `many` samples and returns how much each agrees with `answer`, in millionths. They share one batch where
    /// the model can do that. A sample that fails says nothing, and is left out.
    pub(super) async fn samples(
        &self,
        id: Ulid,
        ask: &Ask,
        messages: &[Message],
        answer: &str,
        many: u32,
    ) -> Vec<u32> {
        let draws = (0..many).map(|number| self.sample(id, number, ask, messages));
        let drawn = join_all(draws).await.into_iter();
        drawn
            .filter_map(|sample| match sample {
                Ok((text, end)) => Some(overlap(answer, &text, end == "length")),
                Err(error) => {
                    tracing::debug!(request = %id, %error, "a sample could not be drawn");
                    None
                }
            })
            .collect()
    }

    /// One sample and how it ended.
    async fn sample(
        &self,
        id: Ulid,
        number: u32,
        ask: &Ask,
        messages: &[Message],
    ) -> Result<(String, String), AskError> {
        let adapter = self.adapters.resolve(&ask.adapter).await?;
        let request = self.generate_request(format!("{id}.{number}"), ask, messages);
        let mut sampling = request.sampling.unwrap_or_default();
        sampling.temperature = TEMPERATURE;
        sampling.seed = Some(seed(id, number));
        let request = GenerateRequest {
            adapter_id: adapter.as_ref().map(|adapter| adapter.id.clone()).unwrap_or_default(),
            max_tokens: request.max_tokens.min(LONGEST),
            sampling: Some(sampling),
            logprobs: None,
            ..request
        };
        let mut events = self.model.generate(request).await?;
        let mut text = String::new();
        while let Some(event) = events.next().await {
            match event? {
                Event::Started(_) => {}
                Event::Delta(delta) => text.push_str(&delta.text),
                Event::Finished(end) => return Ok((text, end.reason)),
            }
        }
        Err(ModelError::Crashed.into())
    }
}

/// Made from the request's id, so that the same request draws the same samples.
fn seed(id: Ulid, number: u32) -> u64 {
    let digest = Sha256::new().chain_update(id.to_bytes()).chain_update(number.to_be_bytes()).finalize();
    digest.iter().take(8).fold(0, |seed, byte| seed << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sample_of_a_request_has_its_own_seed_and_always_the_same() {
        let id = Ulid::from_parts(1, 1);
        assert_eq!(seed(id, 0), seed(id, 0));
        assert_ne!(seed(id, 0), seed(id, 1));
        assert_ne!(seed(id, 0), seed(Ulid::from_parts(1, 2), 0));
    }
}
