"""The text of compiled programs: made up to the letter of XLA's, and a real one."""

import jax
import jax.numpy as jnp
import pytest

from tx_jax.planning.hlo import Collective, read

PROGRAM = """HloModule jit_step, is_scheduled=true

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %sum = f32[] add(%x, %y)
}

%gather_part (p: bf16[16,8]) -> bf16[64,8] {
  %p = bf16[16,8]{1,0:T(8,128)(2,1)} parameter(0)
  ROOT %all-gather.1 = bf16[64,8]{1,0:T(8,128)(2,1)S(1)} all-gather(%p), channel_id=7, replica_groups=[2,4]<=[8], dimensions={0}
}

%gather_rest (p.1: bf16[16,8]) -> bf16[64,8] {
  %p.1 = bf16[16,8]{1,0} parameter(0)
  ROOT %all-gather.2 = bf16[64,8]{1,0} all-gather(%p.1), channel_id=7, replica_groups=[2,4]<=[8], dimensions={0}
}

%body (arg: (s32[], f32[100])) -> (s32[], f32[100]) {
  %arg = (s32[]{:T(128)}, f32[100]{0}) parameter(0)
  %g = f32[100]{0} get-tuple-element(%arg), index=1
  %fusion.9 = f32[100]{0} fusion(%g), kind=kLoop, calls=%add, backend_config={"window_config":{"estimated_cycles":"10"}}
  %all-reduce.3 = (f32[100]{0}, f32[]{:T(128)}) all-reduce(%fusion.9, %c), channel_id=2, replica_groups={{0,1},{2,3},{4,5},{6,7}}, to_apply=%add
  ROOT %t = (s32[], f32[100]) tuple(%i, %g)
}

%condition (arg.1: (s32[], f32[100])) -> pred[] {
  %arg.1 = (s32[], f32[100]) parameter(0)
  %limit = s32[]{:T(128)} constant(5)
  %i = s32[] get-tuple-element(%arg.1), index=0
  ROOT %lt = pred[]{:T(512)} compare(%i, %limit), direction=LT
}

ENTRY %main (a: bf16[16,8], b: f32[100]) -> f32[100] {
  %a = bf16[16,8]{1,0} parameter(0)
  %fusion.1 = bf16[64,8]{1,0} fusion(%a), kind=kCustom, calls=%gather_part, backend_config={"estimated_cycles":"1000"}
  %fusion.2 = bf16[64,8]{1,0} fusion(%a), kind=kCustom, calls=%gather_rest, backend_config={"estimated_cycles":"2000"}
  %while = (s32[], f32[100]{0}) while(%init), condition=%condition, body=%body
  %permute = (bf16[4,8]{1,0}, bf16[4,8]{1,0}, u32[]{:S(2)}, u32[]{:S(2)}) collective-permute-start(%a), channel_id=8, source_target_pairs={{0,1},{1,0}}
  %done = bf16[4,8]{1,0} collective-permute-done(%permute)
  %start = (f32[10]{0}, f32[40]{0}) all-gather-start(%done), channel_id=9, replica_groups=mesh['axis_0'=2,'axis_1'=4], device_ids=([2,4]T(1,0)) {'axis_1'}, dimensions={0}
  %scatter = f32[25]{0} reduce-scatter(%start), channel_id=10, replica_groups=mesh['axis_0'=2,'axis_1'=4] {'axis_0','axis_1':(1)2}, to_apply=%add
  ROOT %r = f32[100]{0} get-tuple-element(%while), index=1
}
"""  # noqa: E501


def test_collectives_and_cycles_of_a_program():
    program = read(PROGRAM)
    assert program.cycles == 1000 + 2000 + 5 * 10
    assert program.collectives == (
        # The first is spread over two fusions: 64 x 8 bf16 over 4 devices. The second: 40 f32 over 4.
        Collective("all-gather", 2, 1024 + 160, 768 + 120),
        Collective("all-reduce", 5, 5 * 404, 5 * 404),  # over 2 devices each sends all of it: 2 * 1/2
        Collective("collective-permute", 1, 64, 64),
        Collective("reduce-scatter", 1, 400, 300),  # over 4: an axis and half of another
    )


@pytest.mark.parametrize("length", [3, 11])
def test_a_real_program_on_one_device(length):
    """No collective, no estimate; and its loop is found, for what is in it would count as often."""

    def loop(x):
        return jax.lax.scan(lambda carry, _: (jnp.sin(carry @ x), None), x, jnp.arange(length))[0]

    text = jax.jit(loop).lower(jnp.ones((8, 8))).compile().as_text()
    assert read(text).collectives == ()
    assert read(text).cycles is None
    assert "while(" in text
    planted = text.replace(" dot(", " all-to-all(")
    assert [c.count for c in read(planted).collectives] == [length]
