//! Renders a model file's own Jinja chat template the way Hugging Face's `apply_chat_template` does: trimmed
//! blocks, Python's string methods and `tojson`, `raise_exception`, `strftime_now`, and the `generation` tag,
//! which marks what a model is trained on and changes nothing here.

use std::borrow::Cow;
use std::thread;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, Value, context};
use minijinja_contrib::pycompat::unknown_method_callback;
use time::OffsetDateTime;
use time::format_description::parse_strftime_borrowed;

use super::json::tojson;

const NAME: &str = "chat";
/// A template comes with the model, so it may be hostile. One unit is one instruction or 64 bytes: this is
/// far above what a long chat takes, and bounds memory to 128 MB.
const FUEL: u64 = 2_000_000;

/// Length of a template in bytes; the longest of known models have a quarter of it.
const LENGTH: usize = 128 << 10;
/// Length of one `{{ ... }}` or `{% ... %}`. The engine reads an expression by recursion, and only some of it is
/// bounded: 100,000 minus signs would end the process.
const TAG_LENGTH: usize = 8 << 10;
/// What the recursion over the longest tag, or over the most branches of a condition, needs with room to spare.
const COMPILE_STACK: usize = 64 << 20;

/// Why a template gives no text.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TemplateError {
    #[error("the chat template is {bytes} bytes long{place}, more than the {limit} that are plausible")]
    TooLong { bytes: usize, limit: usize, place: &'static str },
    #[error("the chat template cannot be compiled")]
    Compiler,
    #[error("the chat template cannot be read: {0}")]
    Syntax(#[source] Error),
    /// The template called `raise_exception`: this sequence of roles is not for this model.
    #[error("the model's chat template refuses these messages: {0}")]
    Refused(String),
    #[error("the chat template failed: {0}")]
    Failed(#[source] Error),
}

/// What `raise_exception` leaves in the error, to be told from the engine's own.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

/// A compiled chat template.
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    takes_tools: bool,
}

/// What a template is given.
pub(super) struct Variables<'a> {
    pub(super) messages: Value,
    /// Python's `None` when there are none.
    pub(super) tools: Option<Value>,
    /// Whether the opening of the assistant's answer is written.
    pub(super) opens_answer: bool,
    pub(super) begin_text: &'a str,
    pub(super) end_text: &'a str,
}

impl ChatTemplate {
    /// Compiles a template on a thread of its own, which has the stack for it.
    pub(crate) fn compile(source: &str) -> Result<Self, TemplateError> {
        if source.len() > LENGTH {
            return Err(TemplateError::TooLong { bytes: source.len(), limit: LENGTH, place: "" });
        }
        match super::tags::longest(source) {
            bytes if bytes > TAG_LENGTH => {
                return Err(TemplateError::TooLong { bytes, limit: TAG_LENGTH, place: " in one tag" });
            }
            _ => {}
        }
        thread::scope(|scope| {
            let builder = thread::Builder::new().name("template".to_owned()).stack_size(COMPILE_STACK);
            let compiled = builder.spawn_scoped(scope, || Self::compile_bounded(source)).ok();
            compiled.and_then(|thread| thread.join().ok()).unwrap_or(Err(TemplateError::Compiler))
        })
    }

    fn compile_bounded(source: &str) -> Result<Self, TemplateError> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(TemplateError::Syntax)?);
        environment.set_unknown_method_callback(unknown_method_callback);
        environment.set_fuel(Some(FUEL));
        environment.add_filter("tojson", tojson);
        environment.add_function("raise_exception", raise_exception);
        environment
            .add_function("strftime_now", |format: String| strftime(&format, OffsetDateTime::now_utc()));
        let compiled = without_generation_tags(source).into_owned();
        environment.add_template_owned(NAME, compiled).map_err(TemplateError::Syntax)?;
        Ok(Self { environment, takes_tools: mentions(source, "tools") })
    }

    /// Whether the template does something with tools.
    pub(super) fn takes_tools(&self) -> bool {
        self.takes_tools
    }

    /// The text for the messages, up to where the assistant's answer begins.
    pub(super) fn render(&self, given: Variables<'_>) -> Result<String, TemplateError> {
        let variables = context! {
            messages => given.messages,
            add_generation_prompt => given.opens_answer,
            bos_token => given.begin_text,
            eos_token => given.end_text,
            tools => given.tools.unwrap_or_else(|| Value::from(())),
            documents => Value::from(()),
        };
        let template = self.environment.get_template(NAME).map_err(TemplateError::Failed)?;
        template.render(variables).map_err(|error| match raised(&error) {
            Some(message) => TemplateError::Refused(message),
            None => TemplateError::Failed(error),
        })
    }
}

/// Whether `word` occurs as a whole word.
fn mentions(source: &str, word: &str) -> bool {
    let is_part = |character: char| character.is_alphanumeric() || character == '_';
    source.match_indices(word).any(|(at, _)| {
        let (before, after) = (&source[..at], &source[at + word.len()..]);
        !before.ends_with(is_part) && !after.starts_with(is_part)
    })
}

/// `{% generation %}` and its end become a condition that always holds, with their white space control.
fn without_generation_tags(source: &str) -> Cow<'_, str> {
    if !mentions(source, "generation") {
        return Cow::Borrowed(source);
    }
    let mut rest = source;
    let mut rewritten = String::with_capacity(source.len());
    while let Some((before, tag)) = rest.split_once("{%") {
        rewritten.push_str(before);
        rewritten.push_str("{%");
        let Some((inside, after)) = tag.split_once("%}") else {
            rest = tag;
            break;
        };
        let (left, right) = (sign(inside.chars().next()), sign(inside.chars().next_back()));
        match inside.trim_matches(['-', '+']).trim() {
            "generation" => rewritten.push_str(&format!("{left} if true {right}")),
            "endgeneration" => rewritten.push_str(&format!("{left} endif {right}")),
            _ => rewritten.push_str(inside),
        }
        rewritten.push_str("%}");
        rest = after;
    }
    rewritten.push_str(rest);
    Cow::Owned(rewritten)
}

fn sign(character: Option<char>) -> &'static str {
    match character {
        Some('-') => "-",
        Some('+') => "+",
        _ => "",
    }
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message.clone()).with_source(Raised(message)))
}

fn raised(error: &Error) -> Option<String> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = cause {
        if let Some(raised) = current.downcast_ref::<Raised>() {
            return Some(raised.0.clone());
        }
        cause = current.source();
    }
    None
}

fn strftime(format: &str, now: OffsetDateTime) -> Result<String, Error> {
    let wrong = |reason: String| Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {reason}"));
    let items = parse_strftime_borrowed(format).map_err(|error| wrong(error.to_string()))?;
    now.format(&items).map_err(|error| wrong(error.to_string()))
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    fn render(source: &str, turns: &[(&str, &str)]) -> Result<String, TemplateError> {
        let turn = |(role, content): &(&str, &str)| {
            Value::from_pairs([("role", Value::from(*role)), ("content", Value::from(*content))])
        };
        ChatTemplate::compile(source)?.render(Variables {
            messages: turns.iter().map(turn).collect(),
            tools: None,
            opens_answer: true,
            begin_text: "<s>",
            end_text: "</s>",
        })
    }

    #[test]
    fn blocks_are_trimmed_like_hugging_face_does() {
        let source = "{{ bos_token }}\n    {% for message in messages %}\n[{{ message['role'] }}] \
                      {{ message.content.strip().upper() }}\n    {% endfor %}\nend";
        assert_eq!(render(source, &[("user", " hi ")]).unwrap(), "<s>\n[user] HI\nend");
    }

    #[test]
    fn contents_are_not_escaped() {
        assert_eq!(render("{{ messages[0].content }}", &[("user", "<a & 'b'>")]).unwrap(), "<a & 'b'>");
    }

    #[test]
    fn tools_are_none_and_the_generation_prompt_is_wanted() {
        let source = "{% if tools is not none %}tools{% endif %}{% if add_generation_prompt %}go{% endif %}";
        assert_eq!(render(source, &[("user", "x")]).unwrap(), "go");
    }

    #[test]
    fn a_template_takes_tools_when_it_names_them() {
        let takes = |source| ChatTemplate::compile(source).unwrap().takes_tools();
        assert!(takes("{% if tools %}x{% endif %}") && takes("{{tools|tojson}}"));
        assert!(!takes("{{ my_tools }}{{ toolset }}") && !takes("{{ messages }}"));
    }

    #[test]
    fn generation_tags_change_nothing() {
        let source = "a\n{%- generation -%} b {%- endgeneration %}{% generation %}c{% endgeneration %}{{ 'generation' }}";
        assert_eq!(render(source, &[]).unwrap(), "abcgeneration");
        assert!(render("{% generation %}never closed", &[]).is_err());
        assert!(render("generation {% if", &[]).is_err());
    }

    #[test]
    fn raise_exception_is_a_refusal_with_the_templates_words() {
        let source = "{{ raise_exception('roles must alternate') }}";
        let error = render(source, &[("user", "x")]).unwrap_err();
        assert!(matches!(&error, TemplateError::Refused(why) if why == "roles must alternate"), "{error}");
    }

    #[test]
    fn a_template_that_does_not_parse_is_a_syntax_error() {
        assert!(matches!(render("{% for %}", &[]), Err(TemplateError::Syntax(_))));
    }

    #[test]
    fn templates_that_are_too_long_are_refused_unread() {
        let long = ChatTemplate::compile(&"x".repeat(LENGTH + 1));
        assert!(matches!(long, Err(TemplateError::TooLong { limit: LENGTH, .. })));
        let signs = ChatTemplate::compile(&format!("{{{{ {}1 }}}}", "-".repeat(100_000)));
        assert!(matches!(signs, Err(TemplateError::TooLong { limit: TAG_LENGTH, .. })));
    }

    #[test]
    fn a_template_that_never_ends_runs_out_of_fuel() {
        let source = "{% for a in range(10000) %}{% for b in range(10000) %}x{% endfor %}{% endfor %}";
        assert!(matches!(render(source, &[]), Err(TemplateError::Failed(_))));
    }

    #[test]
    fn strftime_now_knows_the_formats_templates_use() {
        let day = datetime!(2024-07-26 12:30 UTC);
        assert_eq!(strftime("%d %b %Y", day).unwrap(), "26 Jul 2024");
        assert_eq!(strftime("%Y-%m-%d", day).unwrap(), "2024-07-26");
        assert!(strftime("%", day).is_err());
    }
}
