"""The deliberate faults.

Each fault replaces one piece of code. `test_faults.py` verifies that every piece still occurs once
in its file, so that the list cannot fall behind the code.
"""

from typing import NamedTuple


class Fault(NamedTuple):
    """A replacement in a source file that some test must catch."""

    path: str  # below seqcells/
    original: str
    replacement: str
    slow_tests: str = ""  # the file that covers it, by default the quick tests


CELLS = [
    Fault(
        "cells/lstm.py", "input * scale_candidate(candidate", "output * scale_candidate(candidate"
    ),
    Fault("cells/lstm.py", "hidden = output * torch.tanh(cell)", "hidden = output * cell"),
    Fault("cells/gru.py", "(1 - update) * scale", "update * scale"),
    Fault("cells/rnn.py", '"relu": torch.relu', '"relu": torch.sigmoid'),
    Fault("cells/peephole.py", "peephole_output * cell", "peephole_output * state.cell"),
    Fault("cells/coupled.py", "(1 - forget) * scale", "forget * scale"),
    Fault("cells/light.py", "hidden = torch.tanh(cell)", "hidden = cell"),
    Fault("cells/mgu.py", "gate * hidden[0]", "hidden[0]"),
    Fault("cells/indrnn.py", "weights.weight_hh * scale_hidden(state", "scale_hidden(state"),
    Fault(
        "cells/layer_norm.py", "hidden = output * torch.tanh(normed)", "hidden = output * normed"
    ),
    Fault("cells/base.py", "weights.weight_hh, weights.bias_hh)", "weights.weight_hh)"),
    Fault("cells/base.py", "bound = 1 / math.sqrt", "bound = 2 / math.sqrt"),
]

MODIFIERS = [
    Fault("modifiers/zoneout.py", "if self.training and 0 <", "if 0 <"),
    Fault(
        "modifiers/dropout.py",
        "hidden.new_ones(hidden.shape)",
        "hidden.new_ones(steps, *hidden.shape)",
    ),
    Fault(
        "noise.py", "share * before + (1 - share) * after", "share * after + (1 - share) * before"
    ),
]

TIME = [
    Fault("recurrence/loop.py", "reversed(range(steps)) if reverse", "range(steps) if reverse"),
    Fault("recurrence/loop.py", "select_state(reset, fresh_state, state)", "state"),
    Fault("recurrence/loop.py", "new = select_state(valid, new, before)", "new = new"),
    Fault("recurrence/scan.py", "decay.masked_fill(padding, 1)", "decay"),
    Fault("recurrence/scan.py", "decay[0] * grad_addend[0]", "grad_addend[0]"),
    Fault(
        "sequences.py", "(batch_sizes.unsqueeze(1) > rows)", "(batch_sizes.unsqueeze(1) >= rows)"
    ),
    Fault("sequences.py", "if least < 0 or most > steps:", "if least < 0 or most > steps + 1:"),
    Fault("sequences.py", "unsqueeze(1) < lengths", "unsqueeze(1) <= lengths"),
    Fault(
        "layers.py",
        "steps = lengths, batch_sizes, resets, direction == 1",
        "steps = lengths, batch_sizes, resets, False",
    ),
    Fault("layers.py", "layer < self.num_layers - 1", "layer <= self.num_layers"),
    Fault("ragged.py", "part.index_select(1, unsorted_indices)", "part"),
    Fault("stack.py", "outputs = outputs + inputs", "outputs = outputs"),
    Fault("stack.py", "batch_first=batch_first, reverse=True", "batch_first=batch_first"),
]

PATH = [
    Fault(
        "recurrence/plan.py",
        "stride[:-2] = [None] * (len(stride) - 2)",
        "stride[:-1] = [None] * (len(stride) - 1)",
    ),
    Fault("recurrence/plan.py", "or tensor.is_neg()", ""),
    Fault("recurrence/fast_path.py", "plan.kernel.name != name", "False"),
    Fault("recurrence/fast_path.py", "if not differentiated(grads) and", "if"),
    Fault(
        "recurrence/fast_path.py",
        "problem.bias_hh = bias_hh.data_ptr()",
        "problem.bias_hh = bias_ih.data_ptr()",
    ),
    Fault(
        "recurrence/translation.py",
        "state, fresh = _for_rows(state, rows), _for_rows(fresh, rows)",
        "pass",
    ),
    Fault("recurrence/autograd.py", "if differentiated(grads):", "if False:"),
    Fault("recurrence/transforms.py", "grad = grad.sum(0)", "grad = grad[0]"),
    Fault("recurrence/transforms.py", "and all(dim is None for dim in call.weights)", "and True"),
    Fault("recurrence/transforms.py", "part = part.movedim(0, row)", "part = part.movedim(0, 0)"),
    Fault(
        "recurrence/invariance.py",
        "before = loaded.seqcells_set_path(library.PACKED)",
        "before = loaded.seqcells_set_path(0)",
    ),
    Fault("compatibility.py", "register(sys.modules[name])", "pass"),
    Fault("compatibility.py", "        self.action(module)\n", ""),
    Fault(
        "recurrence/shapes.py",
        "return 2 * flops(*shapes, **options)",
        "return flops(*shapes, **options)",
    ),
    Fault(
        "recurrence/operators.py",
        "if any(part is not None and part.requires_grad for part in call.noise):",
        "if False:",
    ),
    Fault(
        "recurrence/compute.py",
        "map_state(lambda part: part.to(dtype), (outputs, final))",
        "(outputs, final)",
    ),
    Fault(
        "equations/cache.py",
        "recording is None or not recording.is_valid(cell)",
        "recording is None",
    ),
]

LATE = [
    Fault("equations/lowering.py", "max([1 + read, *self.stages[-1:]])", "1 + read"),
    Fault("equations/slots.py", "if any(str(gate) in unshared for gate in stage):", "if False:"),
    Fault("equations/late.py", "scale_hidden(operand, noise)", "operand"),
    Fault("equations/gradient.py", 'add(operand, f"e{first[weights]}")', "pass"),
    Fault(
        "kernels/cpu/native/forward.hpp",
        "if (p.read) this->scale(operand, t, share.row(j), mine);",
        "",
    ),
    Fault(
        "kernels/cpu/native/backward.hpp",
        "p.read && cell.stages && j < alive",
        "p.read && cell.stages > 1 && j < alive",
    ),
    Fault("kernels/cpu/native/gradients.hpp", "(product - 1) * units : 0", "0 * units : 0"),
]

NATIVE = [
    Fault("kernels/cpu/native/forward.hpp", "t = p.lengths ? this->end(r) : T_;", "t = T_;"),
    Fault(
        "kernels/cpu/native/forward.hpp",
        "start(x, p.fresh, j, share);",
        "start(x, p.state, j, share);",
    ),
    Fault("kernels/cpu/native/forward.hpp", "to[u] = from[u] * factor[u];", "to[u] = from[u];"),
    Fault(
        "kernels/cpu/native/forward.hpp",
        "bias[(cell.hidden_at() + s) * units + u] +=",
        "bias[(cell.hidden_at() + s) * units + u] =",
    ),
    Fault(
        "kernels/cpu/native/backward.hpp", "move(dh, x.fresh[0] + j * recurrent, recurrent);", ""
    ),
    Fault(
        "kernels/cpu/native/backward.hpp",
        "return previous >= 0 && r < plan.alive[previous]",
        "return previous >= 0",
    ),
    Fault(
        "kernels/cpu/native/backward.hpp",
        "row[input_at() + I] = T(1);",
        "row[input_at() + I] = T(0);",
    ),
    Fault(
        "kernels/cpu/native/backward.hpp",
        "x.grad[part][j * units + u] += dy[u];",
        "x.grad[part][j * units + u] += 0 * dy[u];",
    ),
    Fault("kernels/cpu/native/numbers.hpp", "-Int8::EXCESS * sum", "-127 * sum"),
    Fault("kernels/cpu/native/gradients.hpp", "p.heads > 1 ? first / D * D : 0", "0"),
    Fault(
        "kernels/cpu/native/forward.hpp",
        "!p.packed || *checksum != found",
        "!p.packed || *checksum == 0",
    ),
    Fault(
        "kernels/cpu/native/backward.hpp",
        "stays[u] = share[u] * dh[u], dh[u] -= stays[u];",
        "stays[u] = share[u] * dh[u];",
    ),
]

TRITON = [
    Fault(
        "kernels/triton/forward_kernel.py", "h = h * load_noise(read", "h = h + 0 * load_noise(read"
    ),
    Fault(
        "kernels/triton/forward_kernel.py",
        "(z[FIRST + s] + products[s],)",
        "(products[s],)",
    ),
    Fault("kernels/triton/forward_kernel.py", "operand = tl.where(active_units, operand, 0.0)", ""),
    Fault(
        "kernels/triton/backward_kernel.py",
        "by_operand *= read_factor",
        "by_operand += 0 * read_factor",
    ),
    Fault(
        "kernels/triton/backward_kernel.py",
        "reset = load_resets(resets, t, rows, active, B)",
        "reset = active & False",
    ),
    Fault("kernels/triton/backward_kernel.py", "active & (n == 0) & ~reset", "active & (n == 0)"),
    Fault(
        "kernels/triton/backward_kernel.py", "h_read = before_h * read_factor", "h_read = before_h"
    ),
    Fault(
        "kernels/triton/launch.py",
        "dz[:, : kernel.inputs * H] @ call.weight_ih",
        "dz[:, : kernel.inputs * H] @ -call.weight_ih",
    ),
    Fault("kernels/triton/launch.py", "block.t() @ read[stage]", "block.t() @ read[-1]"),
    Fault(
        "kernels/triton/problem.py",
        "lengths = call.lengths.to(torch.int64).clamp(0, call.inputs.shape[0])",
        "lengths = call.lengths.to(torch.int64).clamp(1, call.inputs.shape[0])",
    ),
]

LAB = [
    Fault(
        "lab/training/optimisation.py",
        "if first:\n            self.optimiser.zero_grad()",
        "if last:\n            self.optimiser.zero_grad()",
    ),
    Fault(
        "lab/training/optimisation.py",
        "norm = clip_grad_norm_(parameters, self.config.clip_norm or math.inf)",
        "norm = clip_grad_norm_(parameters, math.inf)",
    ),
    Fault("lab/training/optimisation.py", 'self.steps = content["steps"]', "self.steps = 0"),
    Fault("lab/training/optimisation.py", "detach_state(judgement.state)", "None"),
    Fault(
        "lab/training/loop.py",
        'better = validation["loss"] < progress.best_loss',
        'better = validation["loss"] > progress.best_loss',
    ),
    Fault(
        "lab/training/loop.py", "batches.epoch(epoch, start=sums.batches)", "batches.epoch(epoch)"
    ),
    Fault("lab/training/loop.py", 'restore_random_states(local["random"], device)', "pass"),
    Fault(
        "lab/training/loop.py",
        "        self.learner.state = None\n        self.save()",
        "        self.save()",
    ),
    Fault(
        "lab/text/batches.py",
        'random.Random(f"{self.seed} {number}")',
        'random.Random(f"{self.seed}")',
    ),
    Fault("lab/text/batches.py", "self.labels[:, rows]", "self.labels"),
]

STREAMS = [
    Fault("kernels/cpu/native/forward.hpp", "0; hidden_bias && s <", "0; inward_bias && s <"),
    Fault("kernels/cpu/native/stepper.hpp", "if (!rows || rows[b])", ""),
    Fault("kernels/cpu/native/stepper.hpp", "if (residual_ && p", "if (p"),
    Fault("streams/single_steps.py", "    _check_chain(calls)\n", ""),
    Fault("streams/stepper.py", "input.detach().resolve_neg()", "input.detach()"),
    Fault("lab/training/folder_lock.py", "fcntl.LOCK_EX |", "fcntl.LOCK_SH |"),
    Fault("lab/training/runs.py", "        if self.result.exists():", "        if False:"),
]

EMULATED = "tests/core/kernels/test_arm.py"
ARM = [
    Fault("kernels/cpu/native/registers.hpp", "mask.d ? x.d", "mask.a ? x.d", EMULATED),
    Fault(
        "kernels/cpu/native/vector.hpp",
        "for (int j = 0; j <= i;",
        "for (int j = 0; j < i;",
        EMULATED,
    ),
    Fault(
        "kernels/cpu/native/numbers.hpp", "int32_t EXCESS = 0;", "int32_t EXCESS = 128;", EMULATED
    ),
    Fault("kernels/cpu/native/numbers.hpp", "weight.d, value.d);", "weight.c, value.d);", EMULATED),
    Fault("kernels/cpu/native/numbers.hpp", "* (b >> 16);", "* (b << 16 >> 16);", EMULATED),
    Fault(
        "kernels/cpu/native/features.hpp",
        "if (getauxval(AT_HWCAP) & ASIMDDP)",
        "if (false)",
        EMULATED,
    ),
]

REDUCED = [
    Fault("recurrence/choice.py", "exact = single and inputs.is_cpu", "exact = False"),
    Fault("recurrence/brief_steps.py", "if single and request", "if False and request"),
    Fault("recurrence/fast_path.py", "if plan.narrow or rounds:", "if plan.narrow:"),
    Fault("recurrence/fast_path.py", "(plan.quantized or casts)", "plan.quantized"),
    Fault("recurrence/fast_path.py", "(plan.narrow and (recorded or casts))", "False"),
    Fault("cells/base.py", "device=input.device, dtype=input.dtype)", "device=input.device)"),
]

FAULTS = [*CELLS, *MODIFIERS, *TIME, *PATH, *LATE, *NATIVE, *ARM, *REDUCED, *TRITON, *LAB, *STREAMS]
