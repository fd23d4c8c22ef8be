"""The official `openai` package against the daemon, unchanged: only its base URL, or its transport, says that this is
not OpenAI."""

import asyncio
import json
import os
import sys

import httpx2
import openai
import pydantic

import checks

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


def client_for(arguments, kind=openai.OpenAI, key=None):
    key = key or checks.token(arguments)
    if arguments.url:
        return kind(base_url=arguments.url, api_key=key, max_retries=0, timeout=120)
    if kind is openai.AsyncOpenAI:
        http = httpx2.AsyncClient(transport=httpx2.AsyncHTTPTransport(uds=arguments.socket), timeout=120)
    else:
        http = httpx2.Client(transport=httpx2.HTTPTransport(uds=arguments.socket), timeout=120)
    return kind(base_url="http://localhost/v1", api_key=key, max_retries=0, http_client=http)


def chat(client, **more):
    more = {"model": "local", "messages": QUESTION, "max_tokens": 12, "temperature": 0, **more}
    return client.chat.completions.create(**more)


def models(client, _):
    listed = [model.id for model in client.models.list()]
    assert listed[:2] == ["synesis", "local"], listed
    own = client.models.retrieve(listed[2])
    assert (own.owned_by, own.object) == ("device", "model"), own
    assert own.created > 1_600_000_000
    answer = chat(client, model=own.id)
    assert answer.model == own.id and answer.model_extra["synesis"]["adapter"] == "", answer


def whole(client, _):
    answer = chat(client, model="synesis")
    assert answer.id.startswith("chatcmpl-") and answer.object == "chat.completion"
    choice = answer.choices[0]
    assert choice.message.role == "assistant" and len(choice.message.content.split()) > 1, answer
    assert choice.finish_reason in ("stop", "length") and choice.message.tool_calls is None
    usage = answer.usage
    assert usage.prompt_tokens > 5 and 1 < usage.completion_tokens <= 12, usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens, usage
    assert usage.prompt_tokens_details.cached_tokens <= usage.prompt_tokens
    assert answer.system_fingerprint.startswith("fp_")
    extra = answer.model_extra["synesis"]
    assert extra["origin"] == "local" and extra["receipt"] is None and extra["request_id"] in answer.id, extra


def stream(client, _):
    chunks = list(chat(client, stream=True, stream_options={"include_usage": True}))
    *pieces, last = chunks
    assert last.choices == [] and last.usage.completion_tokens > 1, last
    assert all(piece.usage is None for piece in pieces)
    assert pieces[0].choices[0].delta.role == "assistant"
    text = "".join(piece.choices[0].delta.content or "" for piece in pieces)
    assert len(text.split()) > 1, text
    assert len(pieces) > 4, "it came in pieces"
    reasons = [piece.choices[0].finish_reason for piece in pieces]
    assert reasons[-1] in ("stop", "length") and not any(reasons[:-1]), reasons
    assert last.model_extra["synesis"]["origin"] == "local"
    plain = list(chat(client, stream=True))
    assert all(chunk.usage is None for chunk in plain) and plain[-1].choices[0].finish_reason


def helper(client, _):
    """The package's own reader of streams, which is stricter than iterating: an answer that is cut is an error to it."""
    asked = {"model": "local", "messages": QUESTION, "max_tokens": 24, "temperature": 0, "stop": ["e"]}
    with client.chat.completions.stream(**asked) as events:
        seen = [event.type for event in events]
        final = events.get_final_completion()
    assert "content.delta" in seen and seen[-1] == "content.done", seen
    assert final.choices[0].message.content


def left(client, _):
    """A stream that is closed early, and an answer after it."""
    with chat(client, stream=True, max_tokens=400) as answer:
        next(iter(answer))
    assert chat(client, max_tokens=4).choices[0].message.content


def stop(client, _):
    answer = chat(client, stop=["a", "e", "i", "o", "u"])
    assert answer.choices[0].finish_reason == "stop"
    assert not set(answer.choices[0].message.content) & set("aeiou"), answer


def length(client, _):
    answer = chat(client, max_completion_tokens=3, max_tokens=openai.omit)
    assert answer.choices[0].finish_reason == "length" and answer.usage.completion_tokens == 3, answer


def logprobs(client, _):
    answer = chat(client, logprobs=True, top_logprobs=2, max_tokens=6)
    tokens = answer.choices[0].logprobs.content
    assert tokens and len(tokens) >= answer.usage.completion_tokens - 1, (len(tokens), answer.usage)
    assert all(token.logprob <= 0 and len(token.top_logprobs) == 2 for token in tokens), tokens
    text = b"".join(bytes(token.bytes) for token in tokens).decode()
    assert text.startswith(answer.choices[0].message.content), (text, answer.choices[0].message.content)
    streamed = [token for chunk in chat(client, logprobs=True, max_tokens=6, stream=True)
                if chunk.choices[0].logprobs for token in chunk.choices[0].logprobs.content]
    assert [token.token for token in streamed] == [token.token for token in tokens]
    assert chat(client, max_tokens=2).choices[0].logprobs is None


class Colour(pydantic.BaseModel):
    colour: str
    count: int


def formats(client, _):
    schema = {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "green"]}, "sure": {"type": "boolean"}},
        "required": ["colour", "sure"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}
    said = chat(client, response_format=wanted, max_tokens=64).choices[0].message.content
    said = json.loads(said)
    assert said["colour"] in ("red", "green") and isinstance(said["sure"], bool), said
    grammar = chat(client, extra_body={"grammar": 'start: "yes" | "no"'}).choices[0].message.content
    assert grammar in ("yes", "no"), grammar
    either = {"type": "object", "properties": {"colour": {"enum": ["red", "green"]}, "count": {"enum": [1, 2]}},
              "required": ["colour", "count"], "additionalProperties": False}

    class Narrow(Colour):
        model_config = pydantic.ConfigDict(json_schema_extra=lambda schema: schema.update(either))

    parsed = client.chat.completions.parse(
        model="local", messages=QUESTION, max_tokens=64, temperature=0, response_format=Narrow
    )
    assert parsed.choices[0].message.parsed.colour in ("red", "green"), parsed


def completions(client, _):
    answer = client.completions.create(
        model="local", prompt="The capital of France is", max_tokens=6, temperature=0, logprobs=1
    )
    assert answer.object == "text_completion" and answer.choices[0].text.strip(), answer
    assert answer.usage.completion_tokens <= 6
    logs = answer.choices[0].logprobs
    assert len(logs.tokens) == len(logs.token_logprobs) == len(logs.text_offset) == len(logs.top_logprobs) > 0
    chunks = list(client.completions.create(
        model="local", prompt=["The capital of France is"], max_tokens=6, temperature=0, stream=True
    ))
    assert "".join(chunk.choices[0].text for chunk in chunks) == answer.choices[0].text
    assert chunks[-1].choices[0].finish_reason in ("stop", "length")


def sessions(client, _):
    first = chat(client, max_tokens=8, extra_body={"session": "s"})
    second = chat(client, max_tokens=8, extra_body={"session": "s"})
    assert second.usage.prompt_tokens > first.usage.prompt_tokens + 5, (first.usage, second.usage)


def many(_, arguments):
    """Several at once, asynchronously."""

    async def one(client, number):
        text = ""
        async for chunk in await client.chat.completions.create(
            model="local", messages=[{"role": "user", "content": f"Count to {number}."}], max_tokens=12, stream=True
        ):
            text += chunk.choices[0].delta.content or ""
        return text

    async def all_of_them():
        async with client_for(arguments, openai.AsyncOpenAI) as client:
            return await asyncio.gather(*(one(client, number) for number in range(2, 6)))

    answers = asyncio.run(all_of_them())
    assert len(answers) == 4 and all(answers), answers


def refusals(client, _):
    cases = [
        (openai.BadRequestError, 400, "unsupported", "n", {"n": 2}),
        (openai.BadRequestError, 400, "invalid_value", "temperature", {"temperature": "hot"}),
        (openai.BadRequestError, 400, "bad_request", None, {"temperature": 7}),
        (openai.BadRequestError, 400, "empty_prompt", None, {"messages": [{"role": "user", "content": ""}]}),
        (openai.BadRequestError, 400, "unsupported", "messages[0].content[0].type", {"messages": [
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}]}]}),
        (openai.NotFoundError, 404, "model_not_found", "model", {"model": "gpt-4o"}),
        (openai.PermissionDeniedError, 403, "not_enrolled", None, {"model": "cloud"}),
        (openai.PermissionDeniedError, 403, "not_enrolled", None, {"model": "cloud", "stream": True}),
    ]
    for kind, status, code, param, request in cases:
        error = checks.raises(kind, lambda: chat(client, **request))
        assert (error.status_code, error.code, error.param) == (status, code, param), (request, error)
        assert error.request_id and len(error.body["message"]) > 10, error
    error = checks.raises(openai.NotFoundError, lambda: client.models.retrieve("gpt-4o"))
    assert error.code == "model_not_found"
    error = checks.raises(openai.NotFoundError, lambda: client.images.generate(prompt="a cat", model="local"))
    assert error.code == "unknown_url"


def no_vectors(client, _):
    error = checks.raises(openai.BadRequestError, lambda: client.embeddings.create(model="local", input="hello"))
    assert error.code == "no_embeddings" and "next" not in error.body, error


def vectors(client, _):
    made = client.embeddings.create(model="local", input=["one two", "three"])
    assert [row.embedding for row in made.data] == [[0.5, -1.0], [0.5, -1.0]], made
    plain = client.embeddings.create(model="local", input="one", encoding_format="float")
    assert plain.data[0].embedding == [0.5, -1.0] and made.usage.prompt_tokens == 3


def real_vectors(client, _):
    """Of a real model that was told to make them."""
    texts = ["How do I bake bread?", "What is a recipe for baking bread?", "The stock market fell sharply today."]
    made = client.embeddings.create(model="local", input=texts)  # in base64, which the package asks for by itself
    assert [row.index for row in made.data] == [0, 1, 2] and made.object == "list", made
    bread, recipe, market = (row.embedding for row in made.data)
    for vector in (bread, recipe, market):
        assert len(vector) == 576 and abs(sum(x * x for x in vector) - 1) < 1e-4
    dot = lambda one, other: sum(x * y for x, y in zip(one, other))
    assert dot(bread, recipe) > dot(bread, market)
    assert made.usage.prompt_tokens == made.usage.total_tokens > 15, made.usage
    plain = client.embeddings.create(model="local", input=texts[0], encoding_format="float", dimensions=576)
    assert max(abs(x - y) for x, y in zip(plain.data[0].embedding, bread)) < 1e-6
    assert plain.usage.prompt_tokens < made.usage.prompt_tokens

    cases = [
        ("context_length_exceeded", {"input": ["short", "word " * 3000]}),
        ("unsupported", {"input": "a", "dimensions": 64}),
        ("unsupported", {"input": "a", "model": "cloud"}),
        ("invalid_value", {"input": []}),
        ("invalid_value", {"input": ["a", " "]}),
        ("invalid_value", {"input": ["a"] * 257}),
        ("invalid_value", {"input": [[1, 2, 3]]}),
    ]
    for code, request in cases:
        error = checks.raises(openai.BadRequestError, lambda: client.embeddings.create(**{"model": "local", **request}))
        assert (error.status_code, error.code) == (400, code), (request, error)
    error = checks.raises(openai.BadRequestError, lambda: client.embeddings.create(
        model="local", input=["short", "word " * 3000]))
    assert "input 1 takes" in error.body["message"] and "2048" in error.body["message"], error


def tools(client, _):
    weather = {"type": "function", "function": {"name": "weather", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}}}}}
    asked = [{"role": "user", "content": "weather in Oslo"}]
    answer = chat(client, messages=asked, tools=[weather], tool_choice="auto")
    choice = answer.choices[0]
    call = choice.message.tool_calls[0]
    assert choice.finish_reason == "tool_calls" and choice.message.content is None, answer
    assert call.type == "function" and call.function.name == "weather"
    assert json.loads(call.function.arguments) == {"city": "Oslo"}
    with client.chat.completions.stream(model="local", messages=asked, tools=[weather]) as events:
        final = events.get_final_completion()
    assert final.choices[0].message.tool_calls[0].function.name == "weather", final
    result = {"role": "tool", "tool_call_id": call.id, "content": "it rains"}
    history = [*asked, choice.message, result]
    after = chat(client, messages=history, tools=[weather], tool_choice="none")
    assert "it rains" in after.choices[0].message.content, after


def broken(client, _):
    """An answer whose model process dies in the middle: once somebody opens the pipe."""
    text = ""

    def read():
        nonlocal text
        for chunk in chat(client, messages=[{"role": "user", "content": "die"}], stream=True):
            text += chunk.choices[0].delta.content or ""
            if text == "almost":
                open(os.environ["SYNESIS_TEST_GO"], "w").close()

    error = checks.raises(openai.APIError, read)
    assert text == "almost" and error.code == "model_crashed", (text, error)


SECRET = "Mail ada.lovelace@example.org the invoice, please."


def cloud(client, _):
    """The provider behind the gateway echoes what it is sent: the secret goes out hidden and comes back."""
    assert "cloud" in [model.id for model in client.models.list()]
    asked = [{"role": "user", "content": SECRET}]
    answer = chat(client, model="cloud", messages=asked, max_tokens=64)
    assert answer.choices[0].message.content == SECRET, answer
    extra = answer.model_extra["synesis"]
    assert extra["origin"] == "cloud" and extra["receipt"]["schema"] == "synesis.receipt/1", extra
    assert extra["receipt"]["request_id"] == extra["request_id"], extra
    chunks = list(chat(client, model="cloud", messages=asked, max_tokens=64, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == SECRET
    assert chunks[-1].model_extra["synesis"]["origin"] == "cloud"


def budget(client, _):
    error = checks.raises(openai.APIStatusError, lambda: chat(client, model="cloud"))
    assert (error.status_code, error.code, error.type) == (402, "daily_limit", "insufficient_quota"), error


def too_often(client, _):
    for _ in range(3):
        client.models.list()
    error = checks.raises(openai.RateLimitError, lambda: client.models.list())
    assert error.code == "rate_limit_exceeded" and int(error.response.headers["retry-after"]) >= 1, error


def strangers(_, arguments):
    error = checks.raises(openai.AuthenticationError, lambda: client_for(arguments, key="sk-wrong").models.list())
    assert error.status_code == 401 and error.code == "invalid_api_key", error
    rebound = client_for(arguments).with_options(default_headers={"Host": "evil.example"})
    error = checks.raises(openai.PermissionDeniedError, lambda: rebound.models.list())
    assert error.code == "wrong_host", error


KNOWN = {check.__name__: check for check in (
    models, whole, stream, helper, left, stop, length, logprobs, formats, completions, sessions, many, refusals,
    no_vectors, vectors, real_vectors, tools, broken, cloud, budget, too_often, strangers,
)}

if __name__ == "__main__":
    arguments = checks.endpoint().parse_args()
    sys.exit(checks.run(KNOWN, arguments.checks, client_for(arguments), arguments))
