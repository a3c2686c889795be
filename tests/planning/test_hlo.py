"""The text of compiled programs: made up to the letter of XLA's, and a real one."""

import jax
import jax.numpy as jnp
import pytest

from tx_jax.planning.hlo import Collective, instructions, read

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


MEMORIES = """HloModule jit_step, is_scheduled=true

%fused (p: bf16[16,8]) -> bf16[16,8] {
  %p = bf16[16,8]{1,0:T(8,128)(2,1)S(1)} parameter(0)
  ROOT %inner = bf16[16,8]{1,0:T(8,128)(2,1)S(1)} copy(%p)
}

%async_computation (q: f32[512,8]) -> f32[128,8] {
  %q = f32[512,8]{1,0:T(8,128)} parameter(0)
  ROOT %part = f32[128,8]{1,0:T(8,128)S(1)} slice(%q), slice={[0:128], [0:8]}
}

ENTRY %main (a: bf16[16,8], b: f32[512,8]) -> bf16[16,8] {
  %a = bf16[16,8]{1,0:T(8,128)(2,1)} parameter(0)
  %b = f32[512,8]{1,0:T(8,128)} parameter(1)
  %copy-start = (bf16[16,8]{1,0:T(8,128)(2,1)S(1)}, bf16[16,8]{1,0:T(8,128)(2,1)}, u32[]{:S(2)}) copy-start(%a)
  %copy-done = bf16[16,8]{1,0:T(8,128)(2,1)S(1)} copy-done(%copy-start)
  %slice-start = ((f32[512,8]{1,0:T(8,128)}), f32[128,8]{1,0:T(8,128)S(1)}, s32[]{:S(2)}) async-start(%b), calls=%async_computation
  %slice-done = f32[128,8]{1,0:T(8,128)S(1)} async-done(%slice-start)
  %fusion.1 = (bf16[16,8]{1,0:T(8,128)(2,1)S(1)}, f32[4]{0}) fusion(%copy-done, %slice-done, %a), kind=kLoop, calls=%fused, metadata={op_name="jit(step)/transpose(jvp(Encoder))/encoder/layer_0/mlp/wo/add" stack_frame_id=1}, backend_config={"estimated_cycles":"700"}
  %kernel = bf16[16,8]{1,0} custom-call(%fusion.1), custom_call_target="tpu_custom_call", frontend_attributes={kernel_metadata={
 "xprof_metadata":"{}"
}}, metadata={op_name="jit(step)/kernel"}
  ROOT %copy.7 = bf16[16,8]{0,1} copy(%kernel), backend_config={"estimated_cycles":"30"}
}
"""  # noqa: E501


def test_instructions_and_what_they_move_through_the_memory():
    found = {each.name: each for each in instructions(MEMORIES)}
    whole, row = 16 * 8 * 2, "jit(step)/transpose(jvp(Encoder))/encoder/layer_0/mlp/wo/add"
    assert {name: each.bytes for name, each in found.items()} == {
        "copy-start": whole,  # it is read; the copy lies on the chip
        "copy-done": 0,
        "slice-start": 128 * 8 * 4,  # only the part
        "slice-done": 0,
        "fusion.1": whole + 16,  # one of its operands and one of its results
        "kernel": whole + 16,
        "copy.7": 2 * whole,
    }
    assert {name: each.cycles for name, each in found.items() if each.cycles} == {"fusion.1": 700, "copy.7": 30}
    assert (found["fusion.1"].operation, found["fusion.1"].opcode) == (row, "fusion")
    assert found["kernel"].operation == "jit(step)/kernel"
    assert (found["kernel"].target, found["copy.7"].opcode) == ("tpu_custom_call", "copy")
    assert found["fusion.1"].times == 1


LOOKED_UP = """HloModule jit_step, is_scheduled=true

%rows (p: f32[50,8], i: s32[], q: f32[1,8]) -> f32[1,8] {
  %p = f32[50,8]{1,0:T(8,128)} parameter(0)
  %i = s32[] parameter(1)
  %q = f32[1,8]{1,0} parameter(2)
  %row = f32[1,8]{1,0} dynamic-slice(%p, %i, %i), dynamic_slice_sizes={1,8}
  ROOT %sum = f32[1,8]{1,0} add(%row, %q)
}

ENTRY %main (table: f32[50,8], cache: f32[50,8], at: s32[], x: f32[1,8]) -> f32[50,8] {
  %table = f32[50,8]{1,0:T(8,128)} parameter(0)
  %cache = f32[50,8]{1,0:T(8,128)} parameter(1)
  %at = s32[]{:S(6)} parameter(2)
  %x = f32[1,8]{1,0} parameter(3)
  %slice-start = ((f32[50,8]{1,0:T(8,128)}), f32[10,8]{1,0:T(8,128)S(1)}, s32[]{:S(2)}) slice-start(%table)
  %fusion.2 = f32[1,8]{1,0:S(1)} fusion(%table, %at, %x), kind=kLoop, calls=%rows
  ROOT %update = f32[50,8]{1,0:T(8,128)} dynamic-update-slice(%cache, %fusion.2, %at, %at)
}
"""


def test_of_what_is_looked_up_in_or_changed_in_its_place_only_the_part_moves():
    found = {each.name: each.bytes for each in instructions(LOOKED_UP)}
    row = 8 * 4
    assert found == {"slice-start": 10 * row, "fusion.2": 2 * row, "update": row}


def test_instructions_of_a_loop_are_run_as_often_as_it():
    (fusion,) = (each for each in instructions(PROGRAM) if each.name == "fusion.9")
    assert (fusion.times, fusion.cycles, fusion.bytes) == (5, 10, 2 * 400)


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
