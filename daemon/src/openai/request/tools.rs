//! The tools of a request: passed on as they are; `tool_choice` may take some of them away.

use serde_json::Value;
use serde_json::value::RawValue;

use super::{Fields, RequestError};

/// What the model may call.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tools {
    /// For the model's template: the array as it came, or what is left of it.
    pub(super) json: Option<String>,
    /// The names in it.
    pub(super) names: Vec<String>,
}

/// Which of them.
enum Choice {
    /// None at all.
    None,
    /// As the model likes.
    Any,
    /// This one.
    Only(String),
}

/// The tools of a request.
///
/// # Errors
/// Something in them is no function, or the one that is chosen is not among them.
pub(super) fn tools(request: &Fields<'_>) -> Result<Tools, RequestError> {
    // Whether the model calls one tool or more is its own affair.
    request.optional::<bool>("parallel_tool_calls", "true or false")?;
    let choice = choice(request)?;
    let listed: Vec<&RawValue> = request.optional("tools", "an array of tools")?.unwrap_or_default();
    let named: Vec<(String, &RawValue)> =
        listed.into_iter().enumerate().map(tool).collect::<Result<_, _>>()?;
    let all = !matches!(choice, Choice::Only(_));
    let kept: Vec<(String, &RawValue)> = match &choice {
        Choice::None => Vec::new(),
        Choice::Any => named,
        Choice::Only(only) => named.into_iter().filter(|(name, _)| name == only).collect(),
    };
    if kept.is_empty() {
        let expected = "\"none\", \"auto\", \"required\", or one of the tools";
        return match all {
            true => Ok(Tools::default()),
            false => Err(RequestError::WrongType { param: request.path("tool_choice"), expected }),
        };
    }
    let (names, tools): (Vec<String>, Vec<&str>) =
        kept.into_iter().map(|(name, json)| (name, json.get())).unzip();
    let json = match (all, request.raw("tools")) {
        (true, Some(whole)) => whole.get().to_owned(),
        _ => format!("[{}]", tools.join(",")),
    };
    Ok(Tools { json: Some(json), names })
}

fn tool((index, json): (usize, &RawValue)) -> Result<(String, &RawValue), RequestError> {
    let at = format!("tools[{index}]");
    let tool = Fields::of(json, &at)?;
    // Parsed as a whole once: what is nested too deeply is refused here.
    if serde_json::from_str::<Value>(json.get()).is_err() {
        return Err(RequestError::WrongType { param: at, expected: "a function" });
    }
    if tool.required::<String>("type", "\"function\"")? != "function" {
        let why = "tools are functions; give each the type \"function\"";
        return Err(RequestError::Unsupported { param: tool.path("type"), why });
    }
    let function = tool.object("function")?;
    let function = function
        .ok_or_else(|| RequestError::Missing { param: tool.path("function"), expected: "an object" })?;
    Ok((function.required("name", "a string")?, json))
}

fn choice(request: &Fields<'_>) -> Result<Choice, RequestError> {
    let Some(choice) = request.optional::<Value>("tool_choice", "a string or an object")? else {
        return Ok(Choice::Any);
    };
    match (choice.as_str(), choice["function"]["name"].as_str()) {
        (Some("none"), _) => Ok(Choice::None),
        (Some("auto" | "required"), _) => Ok(Choice::Any),
        (None, Some(name)) => Ok(Choice::Only(name.to_owned())),
        _ => Err(RequestError::WrongType {
            param: request.path("tool_choice"),
            expected: "\"none\", \"auto\", \"required\", or one of the tools",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = r#"[{"type": "function", "function": {"name": "a", "parameters": {"z": 1, "b": 2}}}, {"type":"function","function":{"name":"b"}}]"#;

    fn read(more: &str) -> Result<Tools, RequestError> {
        let body = format!(r#"{{"tools": {TWO}{more}}}"#);
        tools(&Fields::of_body(body.as_bytes()).unwrap())
    }

    #[test]
    fn the_choice_decides_which_tools_are_passed_on() {
        for (choice, names) in [
            ("", &["a", "b"][..]),
            (r#", "tool_choice": "auto""#, &["a", "b"]),
            (r#", "tool_choice": "required", "parallel_tool_calls": false"#, &["a", "b"]),
            (r#", "tool_choice": "none""#, &[]),
            (r#", "tool_choice": {"type": "function", "function": {"name": "b"}}"#, &["b"]),
        ] {
            assert_eq!(read(choice).unwrap().names, names, "{choice}");
        }
        assert_eq!(read("").unwrap().json.as_deref(), Some(TWO), "byte for byte");
        let one = read(r#", "tool_choice": {"function": {"name": "b"}}"#).unwrap();
        assert_eq!(one.json.as_deref(), Some(r#"[{"type":"function","function":{"name":"b"}}]"#));
    }

    #[test]
    fn no_tools_are_no_tools() {
        for body in ["{}", r#"{"tools": []}"#, r#"{"tools": null, "tool_choice": "auto"}"#] {
            assert_eq!(tools(&Fields::of_body(body.as_bytes()).unwrap()).unwrap(), Tools::default());
        }
    }

    #[test]
    fn what_is_no_tool_is_named() {
        for (body, param) in [
            (r#"{"tools": {}}"#, "tools"),
            (r#"{"tools": [1]}"#, "tools[0]"),
            (r#"{"tools": [{}]}"#, "tools[0].type"),
            (r#"{"tools": [{"type": "retrieval"}]}"#, "tools[0].type"),
            (r#"{"tools": [{"type": "function"}]}"#, "tools[0].function"),
            (r#"{"tools": [{"type": "function", "function": {}}]}"#, "tools[0].function.name"),
            (r#"{"tool_choice": 1}"#, "tool_choice"),
            (r#"{"tool_choice": "always"}"#, "tool_choice"),
            (r#"{"tool_choice": {"function": {"name": "c"}}}"#, "tool_choice"),
            (r#"{"parallel_tool_calls": 1}"#, "parallel_tool_calls"),
        ] {
            let error = tools(&Fields::of_body(body.as_bytes()).unwrap()).unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{param}` ")), "{body}: {error}");
        }
        let deep = format!(
            r#"{{"tools": [{{"type": "function", "function": {{"name": "a", "x": {}{}}}}}]}}"#,
            "[".repeat(5_000),
            "]".repeat(5_000)
        );
        assert!(Fields::of_body(deep.as_bytes()).and_then(|fields| tools(&fields)).is_err());
    }
}
