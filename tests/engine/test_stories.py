from __future__ import annotations

import time

from story import Story


async def test_shakedown(suite: Story) -> None:
    t = time.time()
    await suite.start("shakedown")
    await suite.until_state("complete", "held")
    print(suite.where(), time.time() - t, suite.loop.time(), len(suite.records()))
    for r in suite.records():
        print(r.seq, r.t, str(r.event)[:150] if r.event.kind != "batch_created" else "")
    assert suite.state.state == "complete"
