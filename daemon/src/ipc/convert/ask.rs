//! Prompts inward, answers outward.

use synesis_privacy::Message;
use synesis_proto::Problem;
use synesis_proto::control::v1 as pb;
use ulid::Ulid;

use crate::ask::{Ask, AskEvent, Constraint, Done, Receipt, Route, Routing, Sampling, TokenLogprob};
use crate::decisions::Replay;
use crate::route::{Decision, Mode, RefuseWhy, cascade};

/// A request of user `uid`. Never fails: what makes no sense in it is found by the asker.
pub(in crate::ipc) fn ask(uid: u32, request: pb::AskRequest) -> Ask {
    let mode = match request.mode() {
        pb::Mode::Unspecified => Mode::Unspecified,
        pb::Mode::Auto => Mode::Auto,
        pb::Mode::Local => Mode::Local,
        pb::Mode::Cloud => Mode::Cloud,
    };
    let some = |text: String| (!text.is_empty()).then_some(text);
    Ask {
        uid,
        mode,
        sampling: Sampling {
            temperature: request.temperature,
            top_p: request.top_p,
            top_k: request.top_k,
            min_p: request.min_p,
            repeat_penalty: request.repeat_penalty,
            presence_penalty: request.presence_penalty,
            frequency_penalty: request.frequency_penalty,
            seed: request.seed,
        },
        constraint: request.constraint.map(|constraint| match constraint {
            pb::ask_request::Constraint::JsonSchema(schema) => Constraint::JsonSchema(schema),
            pb::ask_request::Constraint::Grammar(grammar) => Constraint::Grammar(grammar),
        }),
        messages: request
            .messages
            .into_iter()
            .map(|message| Message {
                role: message.role,
                content: message.content,
                tool_calls: some(message.tool_calls_json),
                tool_call_id: some(message.tool_call_id),
                name: some(message.name),
            })
            .collect(),
        adapter: request.adapter,
        adapter_scale: request.adapter_scale,
        max_tokens: (request.max_tokens > 0).then_some(request.max_tokens),
        logprobs: request.logprobs,
        deterministic: request.deterministic,
        session: request.session,
        stop: request.stop,
        tools: some(request.tools_json),
        raw: request.raw,
    }
}

/// One event of an answer.
pub(in crate::ipc) fn ask_event(id: Ulid, event: AskEvent) -> pb::AskEvent {
    use pb::ask_event::Event;
    let event = match event {
        AskEvent::Routed(route) => Event::Routed(pb::Routed {
            origin: origin(route).into(),
            reason: route.reason().to_owned(),
            request_id: id.to_string(),
        }),
        AskEvent::Delta(delta) => Event::Delta(pb::Delta {
            text: delta.text,
            logprobs: delta.logprobs.into_iter().map(logprob).collect(),
        }),
        AskEvent::Done(end) => Event::Done(done(id, *end)),
    };
    pb::AskEvent { event: Some(event) }
}

fn done(id: Ulid, done: Done) -> pb::Done {
    use pb::done::Receipt as Wire;
    pb::Done {
        origin: origin(done.route).into(),
        reason: done.route.reason().to_owned(),
        model: done.model,
        adapter: done.adapter,
        adapter_generation: done.adapter_generation,
        usage: Some(pb::Usage { input_tokens: done.input_tokens, output_tokens: done.output_tokens }),
        first_token_ms: done.to_first.as_secs_f64() * 1e3,
        total_ms: done.total.as_secs_f64() * 1e3,
        request_id: id.to_string(),
        finish_reason: done.finish_reason,
        receipt: match done.receipt {
            Receipt::Free => None,
            Receipt::Pending => Some(Wire::Pending(true)),
            Receipt::Stored(signed) => Some(Wire::SignedReceipt(signed.to_bytes())),
        },
        unknown_placeholders: done.unknown_placeholders,
        tool_calls_json: done.tool_calls.unwrap_or_default(),
        mean_logprob: done.mean_logprob,
        cached_tokens: done.cached_tokens,
        queued_ms: done.queued.as_secs_f64() * 1e3,
    }
}

fn logprob(token: TokenLogprob) -> pb::TokenLogprob {
    let top = token.top.into_iter().map(logprob).collect();
    pb::TokenLogprob { token: token.token, logprob: token.logprob, top }
}

fn origin(route: Route) -> pb::Origin {
    match route {
        Route::Local(_) => pb::Origin::Local,
        Route::Cloud(_) => pb::Origin::Cloud,
    }
}

/// A decision in words; those of a refusal come from `refusal`.
pub(in crate::ipc) fn route_reply(
    routing: &Routing,
    refusal: impl FnOnce(RefuseWhy) -> Problem,
) -> pb::RouteReply {
    let (reason, explanation, next_step) = match routing.decision {
        Decision::Local(why) => {
            let looked_at = if cascade(&routing.inputs).is_off() {
                ""
            } else {
                "; should it prove unsure of its answer, the cloud answers instead"
            };
            (why.as_str().to_owned(), why.explain().to_owned() + looked_at, why.next_step().to_owned())
        }
        Decision::Cloud(why) => (why.as_str().to_owned(), why.explain().to_owned(), String::new()),
        Decision::Refuse(why) => {
            let Problem { reason, message, next_step, .. } = refusal(why);
            (reason, message, next_step)
        }
    };
    pb::RouteReply {
        decision: routing.decision.place().to_owned(),
        reason,
        explanation,
        next_step,
        input_tokens: routing.input_tokens,
        // Whole numbers and names only: nothing of them does not serialize.
        inputs_json: serde_json::to_string(&routing.inputs).unwrap_or_default(),
    }
}

/// A recorded decision that was decided again.
pub(in crate::ipc) fn replayed(replay: Replay) -> pb::Replayed {
    let same = replay.is_same();
    let (recorded, decided, fault) = match replay.outcome {
        Ok((recorded, decided)) => (recorded, decided, String::new()),
        Err(fault) => (String::new(), String::new(), fault.to_string()),
    };
    pb::Replayed { request_id: replay.request_id, recorded, decided, same, fault }
}
