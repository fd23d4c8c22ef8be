"""`huggingface_hub`'s InferenceClient against the daemon: a client that builds its requests and reads its streams with
code of its own."""

import sys

import httpx2
import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError

import checks

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


def client_for(arguments):
    if arguments.url:
        return huggingface_hub.InferenceClient(base_url=arguments.url, api_key=checks.token(arguments), timeout=120)
    over = httpx2.HTTPTransport(uds=arguments.socket)
    huggingface_hub.set_client_factory(lambda: httpx2.Client(transport=over, timeout=120))
    return huggingface_hub.InferenceClient(base_url="http://localhost/v1", timeout=120)


def whole(client):
    answer = client.chat_completion(QUESTION, model="local", max_tokens=16, temperature=0)
    assert answer.choices[0].message.content.strip(), answer
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens, answer


def stream(client):
    chunks = list(client.chat_completion(
        QUESTION, model="synesis", max_tokens=16, temperature=0, stream=True, stream_options={"include_usage": True}
    ))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text.strip() and len(chunks) > 4, chunks
    assert chunks[-1].usage.completion_tokens > 1, chunks[-1]


def logprobs(client):
    answer = client.chat_completion(QUESTION, model="local", max_tokens=4, logprobs=True, top_logprobs=1)
    assert all(token.logprob <= 0 for token in answer.choices[0].logprobs.content), answer


def refusals(client):
    error = checks.raises(HfHubHTTPError, lambda: client.chat_completion(QUESTION, model="gpt-4o"))
    assert error.response.status_code == 404 and "does not exist here" in error.response.text, error
    error = checks.raises(HfHubHTTPError, lambda: client.chat_completion(QUESTION, model="local", n=2))
    assert error.response.status_code == 400, error


KNOWN = {check.__name__: check for check in (whole, stream, logprobs, refusals)}

if __name__ == "__main__":
    arguments = checks.endpoint().parse_args()
    sys.exit(checks.run(KNOWN, arguments.checks, client_for(arguments)))
