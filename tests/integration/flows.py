"""Coroutines that a scenario of the tests names."""

from services.generator.flow import Flow

NOT_A_COROUTINE = 7


async def buy(flow: Flow) -> None:
    """Make a thing and look at it, as code would that no declared step can say."""
    headers = {"Authorization": f"Bearer {flow.variables['token']}"}
    made = await flow.request("POST", "/things", body={"n": 1}, headers=headers, action="make", status=[201])
    await flow.sleep(0.01)
    seen = await flow.request("GET", f"/things/{made.json()['id']}", action="look")
    flow.variables["thing"] = seen.json()["id"]


async def stumble(flow: Flow) -> None:
    await flow.request("GET", "/things/1")
    raise KeyError("what is not there")
