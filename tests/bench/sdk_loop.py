"""The baseline: the SDK's own loop over a stream, in a process of its own. Prints CPU nanoseconds a run."""

from __future__ import annotations

import asyncio
import sys
import time

from openai import AsyncOpenAI


async def main(base_url: str, runs: int) -> None:
    """One warm-up, then `runs` timed ones."""
    client = AsyncOpenAI(base_url=base_url, api_key="none")
    for run in range(runs + 1):
        before = time.process_time_ns()
        stream = await client.chat.completions.create(
            model="test-model", messages=[{"role": "user", "content": "go"}], stream=True
        )
        text = []
        async for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                text.append(chunk.choices[0].delta.content)
        spent = time.process_time_ns() - before
        if run:
            print(spent, len(text), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
