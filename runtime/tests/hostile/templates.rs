//! Chat templates that are bombs: each must end, with a refusal, while the process goes on.

use synesis_proto::reason;
use synesis_proto::runtime::v1::LoadModelRequest;

use crate::Faults;
use crate::support::{Runtime, SMOL, chat_turn, model};

fn bombs() -> Vec<(&'static str, String)> {
    vec![
        ("a loop in a loop", loops(6, "x")),
        (
            "a loop that builds a text",
            "{% set ns = namespace(t='x') %}{% for i in range(10000) %}\
            {% set ns.t = ns.t ~ ns.t %}{% endfor %}{{ ns.t }}"
                .to_owned(),
        ),
        ("a text times a number", "{{ 'x' * 100000000000 }}".to_owned()),
        ("a list times a number", "{{ ([1] * 100000000000) | length }}".to_owned()),
        ("an endless range", "{% for i in range(100000000000) %}{% endfor %}".to_owned()),
        ("a wide text", "{{ 'x'.center(100000000000) }}{{ 'x'.ljust(100000000000) }}".to_owned()),
        ("a wide format", "{{ '%100000000000d' | format(1) }}".to_owned()),
        ("a wide indent", "{{ 'a\nb' | indent(100000000000) }}".to_owned()),
        ("a macro that calls itself", "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}".to_owned()),
        ("a template that includes itself", "{% include 'chat' %}{% include 'chat' %}".to_owned()),
        ("brackets without end", format!("{{{{ {}1{} }}}}", "(".repeat(100_000), ")".repeat(100_000))),
        ("lists without end", format!("{{{{ {} }}}}", "[".repeat(100_000))),
        ("blocks without end", "{% if true %}".repeat(50_000)),
        ("signs without end", format!("{{{{ {}1 }}}}", "-".repeat(100_000))),
        ("negations without end", format!("{{{{ {}true }}}}", "not ".repeat(100_000))),
        ("filters without end", format!("{{{{ 'x'{} }}}}", "|upper".repeat(200_000))),
        (
            "a replacement that grows",
            "{% set ns = namespace(t='xx') %}{% for i in range(60) %}\
            {% set ns.t = ns.t.replace('x', 'xx') %}{% endfor %}{{ ns.t }}"
                .to_owned(),
        ),
        (
            "a split that grows",
            format!("{}{{{{ messages[0].content.split('') | list | tojson }}}}", loops(5, "")),
        ),
        ("a date of a wide format", format!("{{{{ strftime_now('{}') }}}}", "%Y".repeat(200_000))),
        ("as many signs as there may be", format!("{{{{ {}'x' }}}}", "-".repeat(8_000))),
        ("as many filters as there may be", format!("{{{{ 'x'{}|nothing }}}}", "|upper".repeat(1_300))),
        ("conditions without end", format!("{{% if x %}}{}{{% endif %}}", "{% elif x %}".repeat(10_000))),
        ("a refusal of its own", "{{ raise_exception('never') }}".to_owned()),
        ("no template at all", "{% nonsense %}".to_owned()),
    ]
}

fn loops(depth: usize, inside: &str) -> String {
    let open = "{% for i in range(1000) %}".repeat(depth);
    format!("{open}{inside}{}", "{% endfor %}".repeat(depth))
}

#[tokio::test]
async fn every_template_that_is_a_bomb_ends() {
    let mut runtime = Runtime::start().await;
    let bombs = bombs();
    let mut faults = Faults::default();
    for (case, template) in &bombs {
        let request = LoadModelRequest {
            path: model(SMOL),
            chat_template: template.clone(),
            ..LoadModelRequest::default()
        };
        let outcome = match runtime.load_with(request).await {
            Err(problem) => Err(problem),
            Ok(_) => runtime.answer(chat_turn("Hi", "")).await,
        };
        let typed =
            [reason::BAD_REQUEST, reason::MODEL_INVALID, reason::PROMPT_TOO_LONG, reason::EMPTY_PROMPT];
        faults.judge(&mut runtime, case, outcome, &typed, "").await;
    }
    runtime.load(&model(SMOL)).await.unwrap();
    assert_eq!(runtime.bare("What is the capital of France?", "").await, "The capital of France is Paris.");
    faults.report("templates", bombs.len());
}
