"""The tools for agents, by the official client of the Model Context Protocol."""

import asyncio
import json
import sys

from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client

address, last = sys.argv[1:]


async def call(session, name, arguments, fails=False):
    answer = await session.call_tool(name, arguments)
    assert answer.isError == fails, answer
    return answer.content[0].text if fails else json.loads(answer.content[0].text)


async def main():
    async with streamablehttp_client(f"http://{address}/mcp") as (read, write, _):
        async with ClientSession(read, write) as session:
            hello = await session.initialize()
            assert hello.serverInfo.name == "tidemill", hello
            await session.send_ping()
            tools = {tool.name: tool for tool in (await session.list_tools()).tools}
            names = {"lookup_features", "explain_score", "drift_status", "model_history"}
            assert set(tools) == names, tools
            key = tools["lookup_features"].inputSchema["properties"]["key"]
            assert key["required"] == ["card"], key
            found = await call(session, "lookup_features", {"key": {"card": "c1"}})
            assert set(found["features"]) == {"amount_now", "large", "sum_1h", "ratio", "latest"}, found
            assert found["event_time"] <= found["as_of"] and found["stale"] is False, found
            one = await call(
                session, "lookup_features", {"key": {"card": "c1"}, "features": ["ratio"]}
            )
            assert one["features"] == {"ratio": found["features"]["ratio"]}, one
            await call(session, "lookup_features", {"key": {"card": "nobody"}}, fails=True)
            told = await call(session, "explain_score", {"id": last})
            assert 0 <= told["score"] <= 1 and len(told["features"]) == 5, told
            effects = [abs(f["effect"]) for f in told["features"]]
            assert effects == sorted(effects, reverse=True) and effects[0] > 0, told
            await call(session, "explain_score", {"id": "999999"}, fails=True)
            drift = await call(session, "drift_status", {})
            assert isinstance(drift["readings"], list), drift
            history = await call(session, "model_history", {"name": "online"})
            assert history["in_charge"] == 1, history
            await call(session, "model_history", {"name": "nobody"}, fails=True)


asyncio.run(main())
print("all is well")
