use super::*;

fn text(text: &str) -> Found {
    Found::Text(text.to_owned())
}

fn call(name: &str, arguments: &str) -> Found {
    Found::Call(Call { name: name.to_owned(), arguments: arguments.to_owned() })
}

/// What is found when the answer comes in pieces of `size` characters.
fn read(answer: &str, size: usize) -> Vec<Found> {
    let mut calls = ToolCalls::new(vec!["weather".to_owned(), "time".to_owned()]);
    let mut found: Vec<Found> = Vec::new();
    let mut add = |pieces: Vec<Found>| {
        for piece in pieces {
            match piece {
                Found::Text(text) => push_text(&mut found, &text),
                call @ Found::Call(_) => found.push(call),
            }
        }
    };
    let letters: Vec<char> = answer.chars().collect();
    for piece in letters.chunks(size) {
        add(calls.push(&piece.iter().collect::<String>()));
    }
    add(calls.finish());
    found
}

#[test]
fn calls_are_found_and_everything_else_is_text_however_it_is_cut() {
    let weather = r#"{"city": "Oslo"}"#;
    for (answer, expected) in [
        ("", vec![]),
        ("It is sunny.", vec![text("It is sunny.")]),
        ("a < b and <tool> too <tool_cal", vec![text("a < b and <tool> too <tool_cal")]),
        (
            "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Oslo\"}}\n</tool_call>",
            vec![call("weather", weather)],
        ),
        (
            "Let me look. <tool_call>{\"name\": \"weather\", \"arguments\": {\"city\": \"Oslo\"}}</tool_call><tool_call>{\"name\":\"time\"}</tool_call> done",
            vec![text("Let me look. "), call("weather", weather), call("time", "{}"), text(" done")],
        ),
        // The closing tag may be missing, and may occur in a string.
        ("<tool_call>{\"name\": \"time\", \"arguments\": null}", vec![call("time", "{}")]),
        (
            "<tool_call>{\"name\": \"time\", \"arguments\": {\"x\": \"</tool_call>\"}}</tool_call>",
            vec![call("time", r#"{"x": "</tool_call>"}"#)],
        ),
        (
            "<tool_call>{\"name\": \"time\", \"arguments\": \"{\\\"a\\\":1}\"}</tool_call>",
            vec![call("time", r#"{"a":1}"#)],
        ),
        // What is no call is given back as it was.
        ("<tool_call>weather in Oslo</tool_call>", vec![text("<tool_call>weather in Oslo</tool_call>")]),
        ("<tool_call>{\"city\": 1}</tool_call>", vec![text("<tool_call>{\"city\": 1}</tool_call>")]),
        ("<tool_call>{\"name\": \"time\", \"argu", vec![text("<tool_call>{\"name\": \"time\", \"argu")]),
        (
            "<tool_call>{\"name\": \"time\", \"arguments\": 5}",
            vec![text("<tool_call>{\"name\": \"time\", \"arguments\": 5}")],
        ),
        // Bare objects.
        (r#"{"name": "weather", "parameters": {"city": "Oslo"}}"#, vec![call("weather", weather)]),
        (
            "\n<|python_tag|>{\"type\": \"function\", \"name\": \"weather\", \"parameters\": {\"city\": \"Oslo\"}}",
            vec![call("weather", weather)],
        ),
        (
            r#"{"name": "time", "parameters": {}}; {"name": "weather", "parameters": {"city": "Oslo"}}"#,
            vec![call("time", "{}"), call("weather", weather)],
        ),
        (r#"{"name": "ann", "parameters": {}}"#, vec![text(r#"{"name": "ann", "parameters": {}}"#)]),
        (r#"{"answer": {"name": "time"}}"#, vec![text(r#"{"answer": {"name": "time"}}"#)]),
        (r#"{"name": "time", "param"#, vec![text(r#"{"name": "time", "param"#)]),
        ("{ not json", vec![text("{ not json")]),
        (
            r#"See {"name": "time", "parameters": {}}"#,
            vec![text(r#"See {"name": "time", "parameters": {}}"#)],
        ),
        ("  {", vec![text("  {")]),
        (
            "größe <tool_call>{\"name\":\"time\",\"arguments\":{\"ü\":\"ß\"}}",
            vec![text("größe "), call("time", r#"{"ü":"ß"}"#)],
        ),
    ] {
        for size in [1, 2, 3, 7, 1000] {
            assert_eq!(read(answer, size), expected, "{answer:?} in pieces of {size}");
        }
    }
}

#[test]
fn text_that_cannot_become_a_call_is_not_held_back() {
    let mut calls = ToolCalls::new(vec!["time".to_owned()]);
    assert_eq!(calls.push("Hel"), [text("Hel")]);
    assert_eq!(calls.push("lo <to"), [text("lo ")]);
    assert_eq!(calls.push("ol> x"), [text("<tool> x")]);
    let mut json = ToolCalls::new(vec!["time".to_owned()]);
    assert_eq!(json.push("{\"n"), []);
    assert_eq!(json.push("umber\": 1"), [text("{\"number\": 1")]);
}

#[test]
fn a_call_is_known_as_soon_as_its_object_ends() {
    let mut calls = ToolCalls::new(Vec::new());
    assert_eq!(calls.push("<tool_call>{\"name\": \"x\"}"), [call("x", "{}")]);
    assert_eq!(calls.push("</tool_call>"), []);
    assert_eq!(calls.finish(), []);
}
