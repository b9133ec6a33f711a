"""OpenAI's own client against `criadero serve`: openai_client.py CRIADERO MODEL."""

import asyncio
import subprocess
import sys

import openai


def text_of(stream):
    """The text of a streamed chat, and its last usage."""
    text, usage = "", None
    for piece in stream:
        usage = piece.usage or usage
        text += "".join(choice.delta.content or "" for choice in piece.choices)
    return text, usage


def ask(client, model):
    assert [entry.id for entry in client.models.list()] == [model]
    assert client.models.retrieve(model).owned_by == "criadero"
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who are you?"}]
    common = {"model": model, "messages": messages, "temperature": 0, "max_tokens": 12, "extra_body": {"ignore_eos": True}}
    whole = client.chat.completions.create(**common, logprobs=True, top_logprobs=2)
    assert whole.choices[0].finish_reason == "length" and whole.usage.completion_tokens == 12
    assert [len(token.top_logprobs) for token in whole.choices[0].logprobs.content] == [2] * 12
    streamed, usage = text_of(client.chat.completions.create(**common, stream=True, stream_options={"include_usage": True}))
    assert streamed == whole.choices[0].message.content and usage == whole.usage
    completion = client.completions.create(model=model, prompt=["The llama", "The fox"], n=2, max_tokens=5, logprobs=1, seed=1, stop=["\n\n"])
    assert [choice.index for choice in completion.choices] == [0, 1, 2, 3]
    pieces = client.completions.create(model=model, prompt="The llama", max_tokens=5, temperature=0, stream=True)
    text = "".join(piece.choices[0].text for piece in pieces)
    assert text == client.completions.create(model=model, prompt="The llama", max_tokens=5, temperature=0).choices[0].text
    picked = client.completions.create(model=model, prompt="The llama", extra_body={"guided_choice": [" of the farm", " fox"]}).choices[0]
    assert picked.text in [" of the farm", " fox"] and 0.5 <= picked.share <= 1 and picked.finish_reason == "stop"
    for fields, error in [({"model": "other"}, openai.NotFoundError), ({"presence_penalty": 1.0}, openai.BadRequestError)]:
        try:
            client.completions.create(**{"model": model, "prompt": "x", **fields})
        except error as caught:
            assert caught.body["message"]
        else:
            raise AssertionError(f"{fields} is answered")
    # A stream that is left early.
    with client.chat.completions.create(**{**common, "max_tokens": 150}, stream=True) as stream:
        next(iter(stream))


async def ask_together(url, model):
    client = openai.AsyncOpenAI(base_url=url, api_key="key")
    texts = [client.completions.create(model=model, prompt=f"Day {day}", max_tokens=10, temperature=0) for day in range(8)]
    assert all(answer.usage.completion_tokens <= 10 for answer in await asyncio.gather(*texts))


def main(criadero, model):
    command = [criadero, "serve", model, "--addr", "127.0.0.1:0", "--api-key", "key"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            line = next(line for line in server.stderr if "http://" in line)
            url = line.split(" at ")[1].split(";")[0]
            ask(openai.OpenAI(base_url=url, api_key="key"), model.rstrip("/").rsplit("/", 1)[-1])
            asyncio.run(ask_together(url, model.rstrip("/").rsplit("/", 1)[-1]))
            try:
                openai.OpenAI(base_url=url, api_key="another").models.list()
            except openai.AuthenticationError:
                pass
            else:
                raise AssertionError("another key is let in")
        finally:
            server.terminate()
            server.communicate()
    assert server.returncode == 0, server.returncode


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
