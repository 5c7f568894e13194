"""One-line faults, each with the test that must fail with it; `test_mutants.py` applies them to a copy, one at a time.

Each is a mistake that somebody could make and that nothing would complain of: numbers come out, and are wrong. The
named test is the quickest that fails for certain. Where a line stands more than once in its file, `old` has the line
beside it too.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """A change of one line.

    Args:
        name: what is then wrong.
        file: where, from the project's root.
        old: the text that is replaced; it stands in the file exactly once.
        new: what stands there instead.
        caught_by: the id of the test that fails.
    """

    name: str
    file: str
    old: str
    new: str
    caught_by: str


_FAST = "tests/models/test_fast.py::test_the_fast_impl_gives_what_the_reference_gives"
_PARITY = "tests/bench/test_parity.py::test_outputs_losses_and_all_gradients_equal_the_authors"
_PIECES = "tests/models/test_streaming.py::test_pieces_of_1_7_and_T_give_the_same_outputs_and_losses"
_FUTURE = "tests/models/test_streaming.py::test_the_past_does_not_move_when_the_future_changes"
_LOOPS = (
    "tests/models/test_full_attention.py"
    "::test_outputs_and_gradients_are_those_of_loops_over_queries_and_memories[{}-post]"
)
_STOPPED = "tests/tasks/test_stream_training.py::test_a_run_that_was_stopped_goes_on_exactly[7-expire_span]"
_CLOCK = "tests/bench/clock"

METHODS = (
    Fault(
        "a ratio between contexts is to whichever has as many slots alive",
        "bench/clock/comparison.py",
        "alike = entry.remembers in (one.remembers, _slots(round(one.alive * one.context)))",
        "alike = entry.alive * entry.context == one.alive * one.context or entry.alive == one.alive",
        "tests/bench/test_command_clock.py::"
        "test_a_ratio_between_contexts_is_to_what_was_asked_for_alike[contexts0-alive0-pairs0]",
    ),
    Fault(
        "a query sees itself: full attention",
        "models/full_attention.py",
        "seen = distance >= 1",
        "seen = distance >= 0",
        _LOOPS,
    ),
    Fault(
        "a query sees itself: Transformer-XL",
        "models/transformer_xl.py",
        "seen = (distance >= 1) & (distance <= self.length)",
        "seen = (distance >= 0) & (distance <= self.length)",
        f"{_PARITY}[transformer_xl_postnorm]",
    ),
    Fault(
        "a query sees the next token: Expire-Span",
        "models/expire_span.py",
        "seen = (distance >= 1) & held[:, None, :]",
        "seen = (distance != 0) & (distance >= -1) & held[:, None, :]",
        f"{_FUTURE}[expire_span-0-post]",
    ),
    Fault(
        "a query sees the next token: Transformer-XL with sinusoids",
        "models/transformer_xl.py",
        "seen = distance >= 0",
        "seen = distance >= -1",
        f"{_FUTURE}[transformer_xl-1-post]",
    ),
    Fault(
        "a window is one position longer",
        "models/transformer_xl.py",
        "seen = seen & (distance < self.length)",
        "seen = seen & (distance <= self.length)",
        f"{_PARITY}[transformer_xl_dai2019_samelength_clamp]",
    ),
    Fault(
        "no sqrt(D) in the position term: full attention",
        "models/full_attention.py",
        "keys.shape[1]) / query.shape[-1] ** 0.5",
        "keys.shape[1])",
        _LOOPS,
    ),
    Fault(
        "no sqrt(D): Transformer-XL with sinusoids",
        "models/transformer_xl.py",
        "score = ((content + position) / self.head_dim**0.5)",
        "score = (content + position)",
        f"{_PARITY}[transformer_xl_dai2019]",
    ),
    Fault(
        "the content bias u differs by layer",
        "models/transformer_xl.py",
        "content = (query + context.shared.u[:, None]) @ key.mT",
        "content = (query + (1 + context.layer) * context.shared.u[:, None]) @ key.mT",
        f"{_PARITY}[transformer_xl_dai2019]",
    ),
    Fault(
        "sinusoids of the next distance",
        "models/transformer_xl.py",
        "column = (slots - 1 - distance)",
        "column = (slots - 2 - distance)",
        f"{_PARITY}[transformer_xl_dai2019]",
    ),
    Fault(
        "Expire-Span's ramp off by one",
        "models/expire_span.py",
        "mask = (1 + left / ramp)",
        "mask = (1 + (left - 1) / ramp)",
        f"{_PARITY}[expire_span]",
    ),
    Fault(
        "no renormalisation after the ramp: Expire-Span",
        "models/expire_span.py",
        "return weight / (weight.sum(-1, keepdim=True) + 1e-8)",
        "return weight",
        f"{_PARITY}[expire_span]",
    ),
    Fault(
        "a memory ages by the block and not by the token",
        "models/expire_span.py",
        "left = effective[:, None, :] - distance",
        "left = effective[:, None, :] - age[:, None, :]",
        f"{_PARITY}[expire_span]",
    ),
    Fault(
        "a piece of a block ages memory by a whole block",
        "models/expire_span.py",
        "(age + n) * held",
        "(age + self.sizes.block_length) * held",
        f"{_PIECES}[expire_span-0-post]",
    ),
    Fault(
        "Expire-Span's loss charges memories before their ramp",
        "models/expire_span.py",
        "on_ramp = (mask > 0) & (mask < 1)",
        "on_ramp = mask > 0",
        "tests/models/test_expire_span.py::test_the_loss_charges_pairs_on_the_ramp_and_nothing_else",
    ),
    Fault(
        "noise differs by layer",
        "models/expire_span.py",
        "span.clamp(max=step_randomness(context) * self.settings.max_span)",
        "span.clamp(max=step_randomness(context) ** (1 + context.layer) * self.settings.max_span)",
        "tests/models/test_expire_span.py::test_noise_shortens_all_layers_alike_in_training_only",
    ),
    Fault(
        "what a query may still see has been dropped",
        "models/expire_span.py",
        "alive = span.detach() - age + ramp > 0",
        "alive = span.detach() - age > 0",
        "tests/models/test_expire_span.py::test_dropping_what_expired_changes_no_output",
    ),
    Fault(
        "the slots that go are those that were to stay",
        "models/packing.py",
        "order = in_order[:, in_order.shape[1] - slots :]",
        "order = in_order[:, :slots]",
        "tests/models/test_expire_span.py::test_dropping_what_expired_changes_no_output",
    ),
    Fault(
        "each layer reads what the device computed for itself",
        "models/adaptive_span.py",
        "return self.ratio.tolist() if context.numbers is None else context.numbers",
        "return self.ratio.tolist()",
        "tests/models/test_host.py::test_a_model_reads_at_most_once_per_block_however_many_layers[adaptive_span-settings0]",
    ),
    Fault(
        "Adaptive-Span's ramp off by one",
        "models/adaptive_span.py",
        "return ((span + 1 - distance)",
        "return ((span - distance)",
        f"{_PARITY}[adaptive_span]",
    ),
    Fault(
        "no renormalisation after the ramp: Adaptive-Span",
        "models/adaptive_span.py",
        "weight = weight / (weight.sum(-1, keepdim=True) + 1e-8)",
        "weight = weight / 1",
        f"{_PARITY}[adaptive_span]",
    ),
    Fault(
        "a piece of a block is charged as a whole one",
        "models/adaptive_span.py",
        "aux_loss=self.settings.coefficient * mean_span * x.shape[1] / self.sizes.block_length,",
        "aux_loss=self.settings.coefficient * mean_span,",
        f"{_PIECES}[adaptive_span-0-post]",
    ),
    Fault(
        "spans are not clamped after a step",
        "tasks/task_module.py",
        "wrapped.zero_grad()\n        self.model.after_step()",
        "wrapped.zero_grad()",
        "tests/tasks/test_stream_training.py::test_spans_are_kept_in_range_after_each_step",
    ),
    Fault(
        "the newest memories are compressed and not the oldest",
        "models/compressive.py",
        'self.compressor(state["recent"][:, : self.block_length], usage)',
        'self.compressor(state["recent"][:, -self.block_length :], usage)',
        f"{_PARITY}[compressive_mean]",
    ),
    Fault(
        "compressed memory is misaligned by one slot",
        "models/compressive.py",
        "(offset >= 0) & (offset <= self.compressed)",
        "(offset >= 1) & (offset <= self.compressed + 1)",
        f"{_PARITY}[compressive_mean]",
    ),
    Fault(
        "memory is not detached",
        "models/compressive.py",
        'history = torch.cat([state["recent"], state["open"], x.detach()], dim=1)',
        'history = torch.cat([state["recent"], state["open"], x], dim=1)',
        "tests/models/test_streaming.py::test_state_is_detached_and_its_slots_and_bytes_are_reported[compressive-0-post]",
    ),
    Fault(
        "a stream's state counted once for all rows",
        "models/backbone.py",
        'held["state_bytes"].append(state_bytes(layer) / batch_rows(layer))',
        'held["state_bytes"].append(state_bytes(layer))',
        "tests/models/test_memory_figures.py::test_transformer_xl_holds_its_length_from_the_start[2]",
    ),
    Fault(
        "the parity check ignores an array that it does not know",
        "bench/parity.py",
        'if name != "tokens" and not name.startswith("param/")',
        'if name.startswith(("grad/", "log_probs", "nll", "aux_loss"))',
        "tests/bench/test_parity.py::test_an_array_that_is_missing_unused_or_of_another_shape_fails"
        "[change0-was not computed]",
    ),
)

TASKS = (
    Fault(
        "bpb as a mean of block means",
        "tasks/enwik8.py",
        "self.nats += float((nll.cpu().double() * batch.weights.cpu()).sum())",
        "self.nats += float(nll.cpu().double()[batch.weights.cpu() > 0].mean()) * nll.numel()",
        "tests/tasks/test_enwik8.py::test_bpb_is_summed_nats_over_summed_bytes_and_not_a_mean_of_block_means",
    ),
    Fault(
        "padding is scored",
        "tasks/enwik8.py",
        "weights=counts.float(),",
        "weights=torch.ones(counts.shape),",
        "tests/tasks/test_enwik8.py::test_a_split_is_scored_byte_by_byte_exactly_once[1001-4-7]",
    ),
    Fault(
        "what is tested on has been trained on",
        "tasks/enwik8.py",
        '"train": (0, 18)',
        '"train": (0, 20)',
        "tests/tasks/test_enwik8.py::test_the_excerpt_is_split_90_5_5_and_its_order_0_entropy_is_the_published_one",
    ),
    Fault(
        "memory outlives the end of its row's text",
        "tasks/enwik8.py",
        "reset=ended,",
        "reset=torch.zeros_like(ended),",
        "tests/tasks/test_enwik8.py"
        "::test_training_rows_read_their_own_stream_start_at_their_own_phase_and_begin_again_reset",
    ),
    Fault(
        "each group of rows adds the whole auxiliary loss",
        "tasks/stream_step.py",
        "output.aux_loss * (auxiliary / groups)",
        "output.aux_loss",
        "tests/tasks/test_stream_training.py::test_four_groups_of_two_rows_train_as_eight_rows[expire_span]",
    ),
    Fault(
        "each group of rows is a mean of its own",
        "tasks/stream_step.py",
        "backward(weighted / divisor",
        "backward(weighted / part.weights.sum() / groups",
        "tests/tasks/test_training_by_hand.py"
        "::test_the_loss_is_the_weighted_sum_over_the_summed_weights_or_one[transformer_xl-4]",
    ),
    Fault(
        "losses in half precision",
        "tasks/stream_step.py",
        "output.y if output.y.dtype == torch.float64 else output.y.float()",
        "output.y",
        "tests/tasks/test_mixed_precision.py::test_losses_are_computed_in_float32_from_half_precision_logits[False]",
    ),
    Fault(
        "memory is lost on resume",
        "tasks/task_module.py",
        'carried = self._loaded["carried"][self.global_rank]',
        "carried = None",
        _STOPPED,
    ),
    Fault(
        "the stream begins again on resume",
        "tasks/task_module.py",
        "return self.position if self._loaded is None else",
        "return self.position if True else",
        _STOPPED,
    ),
    Fault(
        "random numbers begin again on resume",
        "tasks/stream_module.py",
        'seed_generators(derive(self.seed, "step", self.step,',
        'seed_generators(derive(self.seed, "step", batch_idx,',
        _STOPPED,
    ),
    Fault(
        "the optimiser begins again on resume",
        "tasks/task_module.py",
        '        self._optimiser().load_state_dict(self._loaded["optimiser"])\n',
        "",
        _STOPPED,
    ),
    Fault(
        "bins of distances are shifted by one",
        "tasks/distance_bins.py",
        "return torch.frexp(distance.double()).exponent.long()",
        "return torch.frexp(distance.double()).exponent.long() + 1",
        "tests/tasks/test_error_rate.py::test_bins_are_powers_of_two_and_zero_stands_alone",
    ),
    Fault(
        "questions are scored before memory is full",
        "tasks/collision_stream.py",
        "scored = (answer > 0) & (read * self.length + np.arange(self.length) >= self.unscored)",
        "scored = (answer > 0) & (read >= 0)",
        "tests/tasks/test_object_collision.py"
        "::test_evaluation_fills_the_memory_first_and_scores_as_many_questions_as_asked_for",
    ),
    Fault(
        "both particles draw the same velocities",
        "tasks/collision_draws.py",
        "return _generator(key, _VELOCITY + particle, block, 0)",
        "return _generator(key, _VELOCITY, block, 0)",
        "tests/tasks/test_collision_world.py::test_collisions_and_classes_of_a_few_worlds",
    ),
    Fault(
        "which pair is asked depends on which question is",
        "tasks/collision_world.py",
        "any_pair = (draws[:, :, 3] * pairs)",
        "any_pair = (draws[:, :, 2] * pairs)",
        "tests/tasks/test_collision_world.py::test_worlds_are_those_of_a_loop_written_from_the_description[rules1-5000]",
    ),
    Fault(
        "all rows show one world",
        "tasks/collision_draws.py",
        'return derive(seed, "object_collision", split, "row", row)',
        'return derive(seed, "object_collision", split, "row")',
        "tests/tasks/test_object_collision.py::test_rows_depend_on_seed_split_and_row_alone",
    ),
    Fault(
        "a meeting is older by a step than it is",
        "tasks/collision_world.py",
        "state.step + np.arange(steps) - met",
        "state.step + np.arange(steps) - met + 1",
        "tests/tasks/test_object_collision.py::test_answers_and_distances_are_what_the_tokens_show[settings0]",
    ),
)

CELLS = (
    Fault(
        "a change of how streams are learned leaves their results fresh",
        "bench/store/fingerprint.py",
        'return [checkout / "tasks" / f"{name}.py"] if name else []',
        "return []",
        "tests/bench/store/test_fingerprint.py::test_only_the_learning_that_the_tasks_card_names_counts",
    ),
    Fault(
        "a variant with a learning rate of its own loses its method's settings",
        "bench/presets/preset.py",
        "join_expression(method, own), method, ",
        "",
        "tests/bench/test_study.py::test_a_variant_may_have_training_and_backbone_of_its_own",
    ),
    Fault(
        "the last weights are tested and not the best",
        "bench/cell.py",
        '    parts.model.load_state_dict(best["model"])\n',
        "",
        "tests/bench/test_cell.py::test_the_best_weights_are_tested_on_the_test_split",
    ),
    Fault(
        "the split that chose the weights is the test",
        "tasks/stream.py",
        'return self._evaluation("test")',
        'return self._evaluation("validation")',
        "tests/bench/test_cell.py::test_the_best_weights_are_tested_on_the_test_split",
    ),
    Fault(
        "the worst point is taken for the best",
        "bench/checkpoints.py",
        "self.sign = 1.0 if higher_is_better else -1.0",
        "self.sign = 1.0",
        "tests/bench/test_cell.py::test_the_best_point_is_the_lowest_or_the_highest_as_the_task_says[False]",
    ),
    Fault(
        "two processes have one cell",
        "bench/store/claim.py",
        "fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)",
        "tests/bench/store/test_claim.py::test_only_one_claim_at_a_time_even_in_one_process",
    ),
    Fault(
        "a finished result is run again and written over",
        "bench/store/attempt.py",
        "if digest != replaces:",
        "if False:",
        "tests/bench/store/test_attempt.py::test_a_result_that_nobody_asked_to_replace_stays",
    ),
    Fault(
        "a result is written in its place",
        "bench/store/atomic.py",
        'temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}{_SUFFIX}")',
        "temporary = path",
        "tests/bench/store/test_atomic.py::test_a_killed_write_leaves_the_old_content_or_the_new",
    ),
    Fault(
        "a W&B run names its host",
        "bench/wandb_export/writer.py",
        '                    host="",\n',
        "",
        "tests/bench/wandb_export/test_export.py::test_no_byte_of_a_run_names_the_machine_or_its_user",
    ),
    Fault(
        "a W&B run names its user's folders",
        "bench/wandb_export/content.py",
        "config=without_folders(config),",
        "config=config,",
        "tests/bench/wandb_export/test_content.py::test_nothing_names_a_folder",
    ),
)

CLOCK = (
    Fault(
        "time is read before the device has done its work",
        "bench/clock/device.py",
        "        synchronise(self.device)\n        wall",
        "        wall",
        f"{_CLOCK}/test_device.py::test_pieces_on_a_gpu_are_timed_by_its_own_clock_and_waited_for_once",
    ),
    Fault(
        "warm-up does not wait for its steps",
        "bench/clock/contestant.py",
        "        workload.step()\n        synchronise(device)",
        "        workload.step()",
        f"{_CLOCK}/test_device.py::test_warm_up_waits_for_each_step",
    ),
    Fault(
        "timing begins without warm-up",
        "bench/clock/contestant.py",
        "if len(samples) < 2 * _WINDOW:\n        return False",
        "if len(samples) < 2 * _WINDOW:\n        return True",
        f"{_CLOCK}/test_device.py::test_warm_up_waits_for_each_step",
    ),
    Fault(
        "timing begins with an empty memory",
        "bench/clock/workload.py",
        "range(max(1, math.ceil(longest / model.sizes.block_length)))",
        "range(1)",
        f"{_CLOCK}/test_workload.py::test_memory_is_full_before_the_first_timed_step[expire_span]",
    ),
    Fault(
        "rows whose text ends are timed with an empty memory",
        "bench/clock/endless_input.py",
        "return replace(batch, reset=torch.zeros_like(batch.reset))",
        "return replace(batch, reset=batch.reset)",
        f"{_CLOCK}/test_workload.py::test_a_row_whose_text_ends_goes_on_with_its_memory_full[expire_span]",
    ),
    Fault(
        "in the Trainer, rows whose text ends are timed with an empty memory",
        "bench/clock/through_trainer.py",
        "kind = UnbrokenData",
        "kind = StreamData",
        f"{_CLOCK}/test_rounds.py::test_inside_the_trainer_a_row_whose_text_ends_goes_on_with_its_memory_full",
    ),
    Fault(
        "timing moves the weights",
        "bench/clock/workload.py",
        "STILL = 1e-300",
        "STILL = 1e-4",
        f"{_CLOCK}/test_workload.py::test_timing_moves_no_weight[adam]",
    ),
    Fault(
        "a method works when it is not its turn",
        "bench/clock/contestant.py",
        "while (steps := coordinator.recv()) is not None:",
        "while (steps := 2) is not None:",
        f"{_CLOCK}/test_rounds.py::test_all_take_turns_in_order_and_never_two_at_once",
    ),
    Fault(
        "cells run while the clock measures",
        "bench/executors/device_lock.py",
        "self._take(fcntl.LOCK_EX, waiting)",
        "self._take(fcntl.LOCK_SH, waiting)",
        "tests/bench/test_device_lock.py::test_cells_share_it_and_the_clock_has_it_alone",
    ),
    Fault(
        "a GPU is called by its place among those that a process may see",
        "bench/devices.py",
        'first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()',
        'first = "0"',
        "tests/bench/test_device_lock.py::test_a_gpu_is_called_by_its_number_on_the_machine_whatever_a_process_may_see",
    ),
    Fault(
        "a cell locks the first GPU and computes on that of its slot",
        "bench/executors/process.py",
        "    _use_device(job)\n    device = device_lock(job.spec)\n",
        "    device = device_lock(job.spec)\n    _use_device(job)\n",
        "tests/bench/test_device_lock.py::test_a_cell_locks_the_gpu_of_its_slot_which_it_chooses_before_cuda_starts",
    ),
    Fault(
        "a cell in this process runs while the clock measures",
        "bench/executors/process.py",
        "with device_lock(spec.to_json()).shared(waiting):",
        "if True:",
        "tests/bench/test_device_lock.py::test_a_cell_in_this_process_waits_while_the_clock_measures",
    ),
    Fault(
        "an evaluation runs while the clock measures",
        "bench/evaluation.py",
        'with DeviceLock(device_name(here.trainer["accelerator"])).shared(waiting):',
        "if True:",
        "tests/bench/test_evaluation.py::test_it_waits_while_the_clock_measures_and_shares_the_device_then",
    ),
    Fault(
        "what the clock could not measure leaves bench run with exit code 0",
        "bench/commands/run.py",
        "code or int(not measured)",
        "code",
        "tests/bench/test_command_clock.py"
        "::test_run_measures_after_its_cells_and_an_interrupt_leaves_the_report_for_later",
    ),
    Fault(
        "an error of the clock stays for ever",
        "bench/clock/phase.py",
        "and not any(method.status in _PASSING for method in measured.methods)",
        "and True",
        f"{_CLOCK}/test_phase.py::test_what_failed_for_a_reason_that_may_pass_is_measured_again",
    ),
    Fault(
        "a shorter measurement takes the place of a longer one",
        "bench/clock/phase.py",
        "all(measured.settings.get(name, 0) >= value for",
        "all(measured.settings.get(name, 0) == value for",
        f"{_CLOCK}/test_phase.py::test_a_longer_measurement_is_enough_and_a_shorter_one_is_not",
    ),
    Fault(
        "times of another PyTorch are taken for today's",
        "bench/clock/phase.py",
        'for name in ("device", "torch", "threads"))',
        'for name in ("device",))',
        f"{_CLOCK}/test_phase.py::test_what_has_changed_is_measured_again_and_the_earlier_file_is_kept",
    ),
    Fault(
        "a method that is off has a time",
        "bench/clock/gate.py",
        "if not verdict.ok:",
        "if False:",
        f"{_CLOCK}/test_gate.py::test_a_method_that_is_off_by_a_hair_misses_its_golden_files",
    ),
    Fault(
        "a line far behind no memory flattens all others",
        "reports/learning_curves.py",
        "crop(left, validated, floor, quality.higher_is_better, levelled)",
        "crop(left, {}, floor, quality.higher_is_better, levelled)",
        "tests/reports/test_learning_curves.py::test_all_panels_end_where_a_line_falls_far_behind_no_memory",
    ),
    Fault(
        "the clock's gate compares what evaluation computes, and losses of training with nothing",
        "bench/clock/gate.py",
        "model.train()",
        "model.eval()",
        f"{_CLOCK}/test_gate.py::test_a_loss_that_only_training_has_is_compared_too[auto_encoding]",
    ),
    Fault(
        "ratios are not paired by round",
        "bench/clock/ratios.py",
        "for mine, theirs in zip(own.rounds, other.rounds, strict=True)",
        "for mine, theirs in zip(own.rounds, other.rounds[::-1], strict=True)",
        f"{_CLOCK}/test_ratios.py::test_only_rounds_that_both_have_are_paired",
    ),
    Fault(
        "each method always follows the same one",
        "bench/clock/rounds.py",
        "names[(place + number) % count]",
        "names[place % count]",
        f"{_CLOCK}/test_rounds.py"
        "::test_turns_are_in_another_order_each_round_and_each_follows_every_other_equally_often[4]",
    ),
    Fault(
        "an interval over too few rounds",
        "bench/clock/ratios.py",
        "if len(values) < FEWEST:",
        "if len(values) < 2:",
        f"{_CLOCK}/test_ratios.py::test_a_ratio_of_few_rounds_has_no_interval_and_says_why[5-False]",
    ),
    Fault(
        "peak memory is that of the whole process",
        "bench/clock/memory.py",
        "if mark.start_ns() <= event.start_ns() <= mark.end_ns():",
        "if True:",
        f"{_CLOCK}/test_memory.py::test_the_peak_is_the_largest_sum_while_it_is_watched",
    ),
    Fault(
        "peak memory is not reset on a GPU",
        "bench/clock/memory.py",
        "        torch.cuda.reset_peak_memory_stats(device)\n",
        "",
        f"{_CLOCK}/test_memory.py::test_peaks_on_a_gpu_are_of_the_steps_that_are_watched",
    ),
    Fault(
        "the allocator's retries while memory is filled count",
        "bench/clock/memory.py",
        "        before = _retries(device)\n",
        "",
        f"{_CLOCK}/test_memory.py::test_peaks_on_a_gpu_are_of_the_steps_that_are_watched",
    ),
    Fault(
        "peak resident size is not reset",
        "bench/clock/memory.py",
        'Path("/proc/self/clear_refs").write_text("5")',
        'Path("/proc/self/clear_refs").write_text("1")',
        f"{_CLOCK}/test_memory.py::test_a_resident_peak_forgets_what_came_before_its_reset",
    ),
)

REPORTS = (
    Fault(
        "differences are not paired by seed",
        "reports/statistics.py",
        "differences = [ours[seed] - baseline[seed] for seed in shared]",
        "differences = [mine - theirs for mine, theirs in zip(ours.values(), baseline.values(), strict=False)]",
        "tests/reports/test_statistics.py::test_differences_are_paired_by_seed_and_use_only_seeds_that_both_have",
    ),
    Fault(
        "p values are not corrected",
        "reports/quality.py",
        "Difference(line.difference.mean, next(corrected))",
        "Difference(line.difference.mean, line.difference.p)",
        "tests/reports/test_figures.py::test_p_values_are_holms",
    ),
    Fault(
        "an interval that holds the mean nine times in ten",
        "reports/statistics.py",
        "special.stdtrit(n - 1, 0.5 + CONFIDENCE / 2)",
        "special.stdtrit(n - 1, CONFIDENCE)",
        "tests/reports/test_statistics.py::test_three_seeds_have_students_interval_and_two_have_none",
    ),
    Fault(
        "the worst method stands first",
        "reports/quality.py",
        "(-1 if higher else 1)",
        "1",
        "tests/reports/test_figures.py::test_best_comes_first_whichever_end_is_better",
    ),
)

KERNELS = (
    Fault(
        "a query of the fast impl sees itself",
        "models/kernels/bands.py",
        "return columns - self.behind - self.lag + (self.begun + t) // self.rate",
        "return columns - self.behind - self.lag + (self.begun + t) // self.rate + 1",
        "tests/models/kernels/test_attention.py::test_a_query_that_sees_no_key_gets_zero_and_gives_no_gradient",
    ),
    Fault(
        "position vectors belong to the distance beside theirs",
        "models/kernels/skew.py",
        "begin, count = tile.storage_offset() + piece.first_hi - piece.reach, piece.reach",
        "begin, count = tile.storage_offset() + piece.first_hi - piece.reach + 1, piece.reach",
        f"{_FAST}[transformer_xl-5-whole-post]",
    ),
    Fault(
        "the softmax's own share of the gradient is forgotten",
        "models/kernels/attention.py",
        "slope.sub_(work.of_lane(share, group, lane, span)).mul_(weight)",
        "slope.mul_(weight)",
        f"{_FAST}[full_attention-1-whole-post]",
    ),
    Fault(
        "dropped weights have a gradient",
        "models/kernels/attention.py",
        "                slope.mul_(keep)\n",
        "",
        "tests/models/test_fast.py::test_dropped_weights_are_the_same_in_forward_and_backward[compressive]",
    ),
    Fault(
        "a span of nothing cannot grow",
        "models/kernels/bias.py",
        "x.clamp(TINY, 1)",
        "x.clamp(0, 1)",
        f"{_FAST}[adaptive_span-10-tiled-pre]",
    ),
    Fault(
        "a head sees what the farthest of its lane sees",
        "models/kernels/bias.py",
        "torch.where(x < 0, -torch.inf, ",
        "torch.where(x < 0, 0.0, ",
        "tests/models/kernels/test_attention.py::test_heads_with_a_span_each[one tile-one lane]",
    ),
    Fault(
        "a tile's gradient of the keys replaces that of the tile before",
        "models/kernels/attention.py",
        "self.beta = 0 if work.at_once(group) else 1",
        "self.beta = 0",
        f"{_FAST}[transformer_xl-5-tiled-pre]",
    ),
    Fault(
        "what is no number is taken for a query without keys",
        "models/kernels/work.py",
        "tile.amax(-1, keepdim=True) == -torch.inf",
        "weight[..., :1].isnan()",
        "tests/models/kernels/test_attention.py::test_what_is_not_a_number_is_not_taken_for_a_query_that_sees_no_key",
    ),
    Fault(
        "a row's columns without a slot hold its neighbour's",
        "models/kernels/rows.py",
        "if min(group.lengths) != max(group.lengths):",
        "if False:",
        "tests/models/kernels/test_attention.py::test_what_is_not_a_number_in_one_row_stays_there[one tile-False]",
    ),
    Fault(
        "the newest slots lose their places",
        "models/expire_span.py",
        "rank = torch.where(near, 2, torch.where(whole, 0, 1))",
        "rank = torch.where(whole, 0, 1)",
        f"{_FAST}[expire_span-14-whole-post]",
    ),
    Fault(
        "a row that begins anew has another's cached keys",
        "models/state.py",
        "if not is_cache(name) or name in new_layer}",
        "if True}",
        "tests/models/test_streaming.py::"
        "test_a_row_reads_the_same_alone_reset_or_beside_others[transformer_xl-0-pre-fast]",
    ),
)

_WORLDS = "tests/tasks/test_worlds.py"
_ACTING = "tests/tasks/test_acting.py"
_COPY = "tests/tasks/test_long_copy.py"
_TURNS = "tests/tasks/test_instruction.py"
_TEXT = "tests/tasks/test_text_stream.py"
_PORTAL = f"{_WORLDS}::test_portals_follow_the_rules[small_portals]"

WORLDS = (
    Fault(
        "a second mistake in a room is forgiven",
        "tasks/portal_worlds.py",
        "(wrong & (self._here(self.mistakes) >= 2))",
        "(wrong & (self._here(self.mistakes) >= 3))",
        _PORTAL,
    ),
    Fault(
        "a mistake leads back one room and not to the first",
        "tasks/portal_worlds.py",
        "torch.where(wrong, 0, self.room))",
        "torch.where(wrong, (self.room - 1).clamp(min=0), self.room))",
        _PORTAL,
    ),
    Fault(
        "a room is worth something each time it is passed",
        "tasks/portal_worlds.py",
        "first = right & (self.room == self.passed)",
        "first = right",
        _PORTAL,
    ),
    Fault(
        "a second try counts from the last mistake in any room",
        "tasks/portal_worlds.py",
        "self.since[index, self.room] = torch.where(back, self.time - mistaken_at, since)",
        "self.since[index, self.room] = torch.where(back, self.time - self.mistaken_at.amax(1), since)",
        _PORTAL,
    ),
    Fault(
        "the wrong door of a corridor is worth something",
        "tasks/corridor_worlds.py",
        "right = ends & (taken == self.object)",
        "right = ends & (taken >= 0)",
        f"{_WORLDS}::test_oracle_and_reactive_policy_score_what_they_should_in_corridors",
    ),
    Fault(
        "the right door of a corridor is always the upper one",
        "tasks/corridor_worlds.py",
        "upper = uniform(key, 3, 1)[:, 0] < 0.5",
        "upper = uniform(key, 3, 1)[:, 0] < 1.5",
        f"{_WORLDS}::test_a_corridor_step_by_step",
    ),
    Fault(
        "a world draws by its place in the batch",
        "tasks/world_draws.py",
        "number = torch.arange(first, first + count, device=device)",
        "number = torch.arange(count, device=device)",
        f"{_WORLDS}::test_a_world_is_the_same_in_a_batch_and_alone[corridors]",
    ),
    Fault(
        "an episode's end has the value of what follows",
        "tasks/actor_critic.py",
        "following = functional.pad(played.value[:, 1:], (0, 1)) * going_on",
        "following = functional.pad(played.value[:, 1:], (0, 1))",
        f"{_ACTING}::test_advantages_are_the_sums_that_define_them",
    ),
    Fault(
        "steps after an episode's end are learned from",
        "tasks/actor_critic.py",
        "mask = alive[:, part]",
        "mask = alive[:, part] | True",
        f"{_ACTING}::test_gradients_are_those_of_the_loss_over_all_steps_at_once",
    ),
    Fault(
        "learning's memory begins anew with each block",
        "tasks/actor_critic.py",
        "        state = output.state\n        yield part, output",
        "        yield part, output",
        f"{_ACTING}::test_learning_reads_the_probabilities_that_acting_had[corridor-transformer_xl-reference]",
    ),
    Fault(
        "the entropy bonus does not fall",
        "tasks/actor_critic.py",
        "return self.entropy * (1 - 0.9",
        "return self.entropy * (1 - 0.0",
        f"{_ACTING}::test_the_entropy_bonus_falls_to_a_tenth",
    ),
    Fault(
        "the symbols before the marks are copied",
        "tasks/copy_episodes.py",
        "place = np.arange(self.n_max) + marks * copied.cumsum(1)",
        "place = np.arange(self.n_max) + marks * (copied.cumsum(1) - copied)",
        f"{_COPY}::test_selective_copies_the_symbols_behind_marks[16-16-2]",
    ),
    Fault(
        "one piece of text repeats the one before",
        "tasks/copy_episodes.py",
        'return Piece(token[inside], item[inside], distance[inside], kind), {"piece": np.array(number + 1)}',
        'return Piece(token[inside], item[inside], distance[inside], kind), {"piece": np.array(number)}',
        f"{_TEXT}::test_a_row_does_not_repeat_itself[copies]",
    ),
    Fault(
        "what was cancelled is carried out",
        "tasks/instruction_world.py",
        "if fate == _CARRY_OUT:",
        "if fate in (_CARRY_OUT, _CANCELLED):",
        f"{_TURNS}::test_every_answer_is_what_a_reader_would_say[settings0]",
    ),
    Fault(
        "short delays are as probable as long ones",
        "tasks/instruction_world.py",
        "delay = int(math.exp(draws[6] * math.log(rules.max_delay + 1)))",
        "delay = 1 + int(draws[6] * rules.max_delay)",
        f"{_TURNS}::test_delays_are_log_uniform_and_fates_as_probable_as_asked_for",
    ),
    Fault(
        "answers are scored before memory is full",
        "tasks/text_stream.py",
        "& (first > stream.unscored)",
        "& (first >= 0)",
        f"{_TEXT}::test_answers_are_scored_whole_behind_the_unscored_and_before_the_end[copies]",
    ),
    Fault(
        "an answer counts that is right in its first word alone",
        "tasks/answers.py",
        "wrong = torch.bincount(number, weights=1.0 - right, minlength=count)",
        "wrong = 1.0 - right[first]",
        f"{_TURNS}::test_answers_are_right_in_every_word_or_wrong",
    ),
)

_STEP = f"{_CLOCK}/test_episode_workload.py"
_CELLS = "tests/bench/test_all_tasks.py"
_BESIDE = "tests/reports/test_references.py"

AROUND_WORLDS = (
    Fault(
        "a method's own loss counts once per block of an episode",
        "tasks/actor_critic.py",
        "+ share * output.aux_loss",
        "+ output.aux_loss",
        f"{_ACTING}::test_a_methods_own_loss_is_its_mean_over_tokens_in_blocks_of_any_length[1]",
    ),
    Fault(
        "what a row never said is asked of it",
        "tasks/text_stream.py",
        "& (source >= 0)",
        "& (source >= -(10**9))",
        f"{_TEXT}::test_nothing_is_asked_that_was_said_before_a_rows_first_token[copies]",
    ),
    Fault(
        "actions are drawn whatever the policy says",
        "tasks/actor_critic.py",
        "action = (log_probability + gumbel.to(log_probability)).argmax(-1)",
        "action = gumbel.to(log_probability).argmax(-1)",
        "tests/tasks/test_acting.py::test_actions_are_drawn_with_the_policys_probabilities",
    ),
    Fault(
        "training meets the worlds of the evaluation",
        "tasks/episodes.py",
        'seed = derive(self.seed, self.name, self.split, "episodes", episode)',
        'seed = derive(self.seed, self.name, "episodes", episode)',
        "tests/tasks/test_acting.py::test_no_split_has_episodes_of_another[portal]",
    ),
    Fault(
        "what was cancelled never sounds",
        "tasks/instruction_world.py",
        "of[0], of[1] = _CANCELLED, max(of[2], self.turn + 1)",
        "of[0] = _FREE",
        "tests/tasks/test_instruction.py::test_delays_are_log_uniform_and_fates_as_probable_as_asked_for",
    ),
    Fault(
        "an agent draws the same actions in every step",
        "tasks/episode_step.py",
        'derive(seed, "actions", step, "rank", 0)',
        'derive(seed, "actions", 0, "rank", 0)',
        "tests/tasks/test_episode_step.py::test_actions_are_drawn_anew_in_each_step_and_for_each_seed",
    ),
    Fault(
        "an agent's entropy bonus stays as it is at first",
        "tasks/episode_step.py",
        "learning.entropy_at(step, of_steps)",
        "learning.entropy_at(0, of_steps)",
        "tests/tasks/test_episode_step.py::test_learning_gets_the_noise_and_the_entropy_bonus_of_its_step",
    ),
    Fault(
        "an agent's noise is the same in every step",
        "tasks/episode_step.py",
        'uniform(seed, "step", step, "block", block)',
        'uniform(seed, "step", 0, "block", block)',
        "tests/tasks/test_episode_step.py::test_learning_gets_the_noise_and_the_entropy_bonus_of_its_step",
    ),
    Fault(
        "an agent's noise is the same in every block",
        "tasks/actor_critic.py",
        "randomness(number)",
        "randomness(0)",
        "tests/tasks/test_acting.py::test_each_block_of_an_episode_has_noise_of_its_own",
    ),
    Fault(
        "copies are tested on what the first seed is trained on",
        "tasks/long_copy.py",
        "_EVALUATION_SEED,\n        split,",
        '_EVALUATION_SEED,\n        "train",',
        "tests/tasks/test_splits.py::test_no_stretch_is_in_two_splits_or_seeds[selective]",
    ),
    Fault(
        "instructions are tested on what they are validated on",
        "tasks/instruction.py",
        "_EVALUATION_SEED,\n        split,",
        '_EVALUATION_SEED,\n        "test",',
        "tests/tasks/test_splits.py::test_no_stretch_is_in_two_splits_or_seeds[instruction]",
    ),
    Fault(
        "spans that are learned may outgrow what fills memory before scoring",
        "bench/study.py",
        "reach = max(reach, longest)",
        "pass",
        "tests/bench/test_study.py::test_spans_that_may_outgrow_the_unscored_tokens_are_refused",
    ),
    Fault(
        "lines that differ in more than a setting are one line of it",
        "reports/by_setting.py",
        'rest = {name: value for name, value in group.spec.items() if name not in ("variant", _place(key))}',
        'rest = {"method": group.method}',
        "tests/reports/test_by_setting.py::test_lines_of_one_name_are_told_apart",
    ),
    Fault(
        "the worst value of a setting is called the best",
        "reports/by_setting.py",
        "(max if higher_is_better else min)(scores.values())",
        "(min if higher_is_better else max)(scores.values())",
        "tests/reports/test_by_setting.py::test_lines_that_differ_in_one_number_are_one_line",
    ),
    Fault(
        "a grid that chooses by validation shows the test",
        "reports/build.py",
        'card.get("judged_by") == "validation"',
        'card.get("judged_by") == "test"',
        "tests/reports/test_by_setting.py::test_a_study_that_is_judged_by_validation_names_the_best_and_shows_no_test",
    ),
    Fault(
        "seeds that have not run yet have failed to solve a task",
        "reports/quality.py",
        'cells["status"].isin(_ENDED).sum()',
        "len(cells)",
        f"{_BESIDE}::test_solved_counts_seeds_that_failed_and_none_that_has_not_run",
    ),
    Fault(
        "questions about one collision count as about many",
        "tasks/error_rate.py",
        "source = self.read + column - distance",
        "source = self.read + column",
        "tests/tasks/test_error_rate.py::test_what_is_asked_about_the_same_place_again_has_one_source",
    ),
    Fault(
        "a bin is a mean over the seeds that have enough answers there",
        "reports/by_distance.py",
        "set.intersection(",
        "set.union(",
        f"{_BESIDE}::test_a_bin_that_one_seed_has_too_few_answers_in_is_left_out",
    ),
    Fault(
        "drawn actions are scored as the likeliest",
        "tasks/episode_module.py",
        '"greedy" if batch.greedy else "sampled"',
        '"sampled" if batch.greedy else "greedy"',
        f"{_CELLS}::test_each_score_of_a_tested_agent_is_of_who_it_is_named_after[portal]",
    ),
    Fault(
        "who tosses coins is scored as one who knows all",
        "tasks/episode_module.py",
        'lambda here: here.oracle(here.get_state())), "oracle")',
        'lambda here: here.reactive(coins)), "oracle")',
        f"{_CELLS}::test_each_score_of_a_tested_agent_is_of_who_it_is_named_after[corridor]",
    ),
    Fault(
        "second tries of the likeliest actions count",
        "tasks/portal.py",
        "self._tries.get(who, [",
        'self._tries.get("greedy" if who == self.who else who, [',
        "tests/tasks/test_worlds.py::test_rooms_are_counted_as_they_are_passed",
    ),
    Fault(
        "the report says of drawn actions that they are the likeliest",
        "reports/reading.py",
        'context.get("actions") == "drawn"',
        'context.get("actions") == "likeliest"',
        f"{_BESIDE}::test_a_report_says_whether_actions_were_drawn[test]",
    ),
    Fault(
        "the step of an agent that succeeds is shorter",
        "tasks/actor_critic.py",
        "while worlds.time < worlds.horizon if whole else not bool(worlds.ended.all()):",
        "while not bool(worlds.ended.all()):",
        f"{_STEP}::test_a_step_is_timed_until_the_horizon_however_soon_worlds_end",
    ),
    Fault(
        "the steps of worlds that have ended count among an agent's spans",
        "bench/evaluation.py",
        "self.record.tokens.append(pl_module.alive.cpu())",
        "self.record.tokens.append(torch.ones_like(pl_module.alive).cpu())",
        f"{_CELLS}::test_an_agent_is_evaluated_again_as_it_was_tested_and_with_other_spans",
    ),
    Fault(
        "solved is a share of a hundred, whatever the best possible is",
        "reports/references.py",
        'ceiling = found.get("oracle", 100.0 if card["unit"] == "%" else None)',
        'ceiling = 100.0 if card["unit"] == "%" else None',
        f"{_BESIDE}::test_references_stand_below_the_models_and_solved_is_a_share_of_what_the_oracle_scores",
    ),
    Fault(
        "the figure by distance shows a sweep its test",
        "reports/by_distance.py",
        'if quality.split != "test":',
        'if quality.split == "":',
        f"{_BESIDE}::test_a_sweep_has_no_figure_of_the_test",
    ),
    Fault(
        "an agent without memory stands in a table of its own",
        "reports/groups.py",
        'if not (acts and key == "block_length")',
        'if key != ""',
        f"{_BESIDE}::test_agents_that_learn_in_blocks_of_other_lengths_share_a_table",
    ),
)

_ZOO = "tests/models/test_oracles.py::test_outputs_and_gradients_are_those_of_the_loops"
_CHOICE = f"{_ZOO}[memory_transformer-{{'slots': 4}}-post]"
_TWICE = f"{_ZOO}[memory_transformer-{{'slots': 3, 'reading': 'two_pass'}}-post]"
_DOCUMENTS = "tests/tasks/test_document_labels.py"
_OF_METHODS = "tests/models/test_methods.py"

ZOO = (
    Fault(
        "importance is left out of the scores",
        "models/gapped.py",
        "score = (query @ key.mT + position) / query.shape[-1] ** 0.5 + level[:, :, None]",
        "score = (query @ key.mT + position) / query.shape[-1] ** 0.5 + 0 * level[:, :, None]",
        _CHOICE,
    ),
    Fault(
        "the least important states stay",
        "models/choice.py",
        "importance.flip(-1).sort(dim=-1, descending=True, stable=True)",
        "importance.flip(-1).sort(dim=-1, descending=False, stable=True)",
        _CHOICE,
    ),
    Fault(
        "of equally important states the older stay",
        "models/choice.py",
        "    latest_first = importance.flip(-1).sort(dim=-1, descending=True, stable=True).indices[..., :count]\n"
        "    return (importance.shape[-1] - 1 - latest_first).sort(dim=-1).values",
        "    return importance.sort(dim=-1, descending=True, stable=True).indices[..., :count].sort(dim=-1).values",
        "tests/models/test_compression.py::test_the_most_used_states_stay_in_order_and_of_equal_ones_the_newer",
    ),
    Fault(
        "zero vectors compete with what was read",
        "models/memory_transformer.py",
        'chosen = greatest(worth.masked_fill(~slots["read"], least), self.count)',
        "chosen = greatest(worth, self.count)",
        f"{_ZOO}[memory_transformer-{{'slots': 7}}-post]",
    ),
    Fault(
        "chosen slots have the positions of slots without gaps",
        "models/gapped.py",
        "away = now - time[:, :, None, count - near : count]",
        "away = now - (time[:, :, -1:] - time.shape[-1] + 1 + torch.arange(count - near, count))[:, :, None]",
        _CHOICE,
    ),
    Fault(
        "importance rises with age",
        "models/memory_transformer.py",
        "level = importance + self.fade.exp() * (time",
        "level = importance - self.fade.exp() * (time",
        f"{_ZOO}[memory_transformer-{{'slots': 5, 'fading': 'learned'}}-post]",
    ),
    Fault(
        "the finished memory goes on changing in the second reading",
        "models/memory_transformer.py",
        '"finished": torch.ones_like(state["finished"]),',
        '"finished": torch.zeros_like(state["finished"]),',
        _TWICE,
    ),
    Fault(
        "the second reading goes on in time where the first ended",
        "models/memory_transformer.py",
        '"clock": torch.zeros_like(state["clock"]),',
        '"clock": state["clock"],',
        _TWICE,
    ),
    Fault(
        "the quick impl adds a slot's importance to its neighbour",
        "models/kernels/slot_scores.py",
        "by_row[..., piece.columns] += level[:, None, None, piece.keys]",
        "by_row[..., piece.columns] += level.roll(1, 1)[:, None, None, piece.keys]",
        f"{_FAST}[memory_transformer-22-whole-post]",
    ),
    Fault(
        "the quick impl's position terms stand one slot off",
        "models/kernels/slot_scores.py",
        "end = group.columns - self.behind",
        "end = group.columns - self.behind - 1",
        f"{_FAST}[memory_transformer-22-whole-post]",
    ),
    Fault(
        "importance has no gradient in the quick impl",
        "models/kernels/slot_scores.py",
        "b[group.rows] += by_column[:, columns]",
        "b[group.rows] += 0 * by_column[:, columns]",
        f"{_FAST}[memory_transformer-22-whole-post]",
    ),
    Fault(
        "a second reading has positions for the newest slots alone",
        "models/memory_transformer.py",
        "self.near = self.count if self.readings == 2 else min(self.count, sizes.block_length)",
        "self.near = min(self.count, sizes.block_length)",
        f"{_ZOO}[memory_transformer-{{'slots': 30, 'reading': 'two_pass'}}-post]",
    ),
    Fault(
        "any states are the same ones in every layer",
        "models/memory_transformer.py",
        "time, clock, self.seed + context.layer)",
        "time, clock, self.seed)",
        "tests/models/test_choice.py::test_any_states_are_others_in_each_row_layer_and_model",
    ),
    Fault(
        "every head chooses by the first head's importance",
        "models/importance_sparse.py",
        "h[:, :, None], self.importance.weight)",
        "h[:, :, None], self.importance.weight[:1].expand_as(self.importance.weight))",
        f"{_ZOO}[importance_sparse-{{'slots': 2}}-post]",
    ),
    Fault(
        "a dilated convolution reads neighbours",
        "models/compressors.py",
        "self.rate, self.dilation, self.loss = rate, 2 if dilated else 1, loss",
        "self.rate, self.dilation, self.loss = rate, 1, loss",
        "tests/models/test_compression.py"
        "::test_a_dilated_convolution_reads_every_second_state_back_to_the_group_before",
    ),
    Fault(
        "the task's gradient reaches a convolution that has a loss of its own",
        "models/compressors.py",
        'return slots if self.loss == "bptt" else slots.detach()',
        "return slots",
        "tests/models/test_compression.py::test_each_loss_reaches_the_compressor_and_nothing_else"
        "[reference-attention_reconstruction-by_loss0-by_task0-conv-post]",
    ),
    Fault(
        "the reconstruction loss trains the projections",
        "models/compressive.py",
        "key, value = (frozen(part, keys) for part in (self.project.key, self.project.value))",
        "key, value = (part(keys) for part in (self.project.key, self.project.value))",
        "tests/models/test_compression.py::test_each_loss_reaches_the_compressor_and_nothing_else"
        "[reference-attention_reconstruction-by_loss0-by_task0-conv-post]",
    ),
    Fault(
        "the least used states are kept",
        "models/compressors.py",
        "kept = greatest(usage, old.shape[1] // self.rate)",
        "kept = greatest(-usage, old.shape[1] // self.rate)",
        "tests/models/test_compression.py::test_the_most_used_states_stay_in_order_and_of_equal_ones_the_newer",
    ),
    Fault(
        "usage is not divided by the number of queries",
        "models/compressive.py",
        'usage = state["used"][:, : self.block_length] / queries',
        'usage = state["used"][:, : self.block_length]',
        f"{_ZOO}[compressive-{{'memory_length': 6, 'compress_size': 4, 'rate': 4, 'compression': 'most_used'}}-post]",
    ),
    Fault(
        "a random feature's signs are not random",
        "models/performer.py",
        "basis = basis * triangle.diagonal(dim1=-2, dim2=-1).sign()[:, None]",
        "basis = basis * triangle.diagonal(dim1=-2, dim2=-1).abs().sign()[:, None]",
        "tests/models/test_performer.py"
        "::test_the_error_to_exact_softmax_falls_as_one_over_the_root_of_the_number_of_features",
    ),
    Fault(
        "a query sees its own key: Performer",
        "models/performer.py",
        "both = before + ((asks @ tells.mT).tril(-1) * alike) @ told",
        "both = before + ((asks @ tells.mT).tril(0) * alike) @ told",
        f"{_ZOO}[performer-{{'features': 9}}-post]",
    ),
    Fault(
        "a query sees keys of the sequence before",
        "models/performer.py",
        "both = before + ((asks @ tells.mT).tril(-1) * alike) @ told",
        "both = before + (asks @ tells.mT).tril(-1) @ told",
        f"{_ZOO}[performer-{{'features': 9, 'reset_every': 3}}-post]",
    ),
    Fault(
        "a sequence's sums go on in the next",
        "models/performer.py",
        "goes_on, last = (own[:, -1:] == last)[:, None, :, None], own[:, -1:]",
        "goes_on, last = 1, own[:, -1:]",
        f"{_ZOO}[performer-{{'features': 9, 'reset_every': 3}}-post]",
    ),
    Fault(
        "the keys of a sequence that ended within a block are summed up with the next one's",
        "models/performer.py",
        "sums = sums * goes_on + (tells * (own == last)[:, None, :, None]).mT @ told",
        "sums = sums * goes_on + tells.mT @ told",
        f"{_ZOO}[performer-{{'features': 9, 'reset_every': 3}}-post]",
    ),
    Fault(
        "turning is no rotation",
        "models/performer.py",
        "return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)",
        "return torch.cat([first * cos - second * sin, first * sin - second * cos], dim=-1)",
        f"{_ZOO}[performer-{{'features': 9}}-post]",
    ),
    Fault(
        "sums over old features are kept after a redraw",
        "models/performer.py",
        'kept = (state["draw"] == self.draw).view(-1, 1, 1, 1)',
        'kept = (state["draw"] <= self.draw).view(-1, 1, 1, 1)',
        "tests/models/test_performer.py::test_a_redraw_changes_features_begins_the_sums_anew_and_is_resumed",
    ),
    Fault(
        "an LSTM takes its cell for its output",
        "models/lstm.py",
        'after = {"output": output.transpose(0, 1).detach(), "cell": cell.transpose(0, 1).detach()}',
        'after = {"output": cell.transpose(0, 1).detach(), "cell": cell.transpose(0, 1).detach()}',
        f"{_ZOO}[lstm-{{'hidden': 5}}-post]",
    ),
    Fault(
        "the mixer's window is one position older",
        "models/mlp_mixer.py",
        "memory = history[:, history.shape[1] - earlier :]",
        "memory = history[:, history.shape[1] - earlier - 1 : -1]",
        f"{_ZOO}[mlp_mixer-{{'window': 7, 'hidden': 3}}-post]",
    ),
    Fault(
        "MLP-Mixer's weights are turned around within a block",
        "models/mlp_mixer.py",
        ".unfold(1, weights.shape[1] + n - 1, 1).flip(1)",
        ".unfold(1, weights.shape[1] + n - 1, 1)",
        f"{_ZOO}[mlp_mixer-{{'window': 7, 'hidden': 3}}-post]",
    ),
    Fault(
        "MLP-Mixer's chunks all end where the block does",
        "models/mlp_mixer.py",
        "yield channels[:, :, begin : begin + min(CHUNK, n - begin) + earlier]",
        "yield channels[:, :, n - min(CHUNK, n - begin) : n + earlier]",
        "tests/models/test_streaming.py::test_blocks_that_are_computed_in_chunks_have_no_seam[mlp_mixer-settings1]",
    ),
    Fault(
        "each block of a document charges the whole auxiliary loss",
        "tasks/document_step.py",
        "share = 1 / len(parts)",
        "share = 1.0",
        f"{_DOCUMENTS}::test_training_and_scores_are_those_of_a_loop_over_documents"
        "[expire_span-{'max_span': 20, 'ramp': 4, 'coefficient': 0.02, 'noisy': True}]",
    ),
    Fault(
        "before and after are mixed up",
        "tasks/labelled_documents.py",
        '"kind": np.where(away > 0, BEFORE, AFTER),',
        '"kind": np.where(away > 0, AFTER, BEFORE),',
        f"{_DOCUMENTS}::test_labels_are_those_that_a_naive_reader_finds",
    ),
    Fault(
        "memory is projected for nothing in a stated cost",
        "models/memory_transformer.py",
        '"cost": "8 * E * H * D + 4 * E * H * D * m / T',
        '"cost": "8 * E * H * D + 0 * E * H * D * m / T',
        "tests/models/test_cost.py::test_the_cost_is_what_pytorch_counts[memory_transformer-{'slots': 12}]",
    ),
    Fault(
        "any states are chosen by what rounding moves",
        "models/memory_transformer.py",
        'scrambled(slots["memory"].argmax(-1), time',
        'scrambled((slots["memory"].sum(-1) * 4096).round().long(), time',
        f"{_OF_METHODS}::test_any_states_are_the_same_ones_however_they_were_rounded[reference]",
    ),
    Fault(
        "caches that were not carried on are used later",
        "models/importance_sparse.py",
        "state, statistics = without_caches(state), ",
        "statistics = ",
        "tests/models/test_streaming.py::test_caches_that_a_call_does_not_carry_on_are_not_used_by_the_next"
        "[importance_sparse-0-post-fast]",
    ),
    Fault(
        "importance never fades at first",
        "models/memory_transformer.py",
        "torch.tensor(-math.log(self.count))",
        "torch.tensor(-float(self.count))",
        f"{_OF_METHODS}::test_what_is_as_old_as_memory_has_slots_has_lost_one_at_first[memory_transformer]",
    ),
    Fault(
        "a setting is not read: how far apart position vectors begin",
        "models/importance_sparse.py",
        "LearnedPositions(sizes.head_dim, sizes.block_length, settings.position_scale)",
        "LearnedPositions(sizes.head_dim, sizes.block_length, 1.0)",
        f"{_OF_METHODS}::test_position_scale_is_the_standard_deviation_of_the_first_position_vectors"
        "[importance_sparse-settings6]",
    ),
    Fault(
        "memory is said to be full from the start",
        "models/memory_transformer.py",
        'return 0 if self.settings.memory == "none" else self.count',
        "return 0",
        "tests/models/test_sized.py::test_a_memory_is_full_after_so_many_positions[memory_transformer-84]",
    ),
    Fault(
        "a window counts the query's own position as one before it",
        "models/mlp_mixer.py",
        "return Settings(window=slots + 1)",
        "return Settings(window=slots)",
        "tests/models/test_sized.py::test_a_memory_is_full_after_so_many_positions[mlp_mixer-100]",
    ),
    Fault(
        "a piece of a block is charged the whole block's reconstruction",
        "models/compressive.py",
        "functional.mse_loss(read[1], read[0]) * (x.shape[1] / self.block_length)",
        "functional.mse_loss(read[1], read[0])",
        "tests/models/test_compression.py::test_the_loss_of_a_piece_is_its_share_of_the_block[attention_reconstruction]",
    ),
    Fault(
        "features are random, but not orthogonal",
        "models/performer.py",
        'self.register_buffer("features", orthogonal(self.count, sizes.head_dim, None))',
        'self.register_buffer("features", torch.randn(self.count, sizes.head_dim))',
        "tests/models/test_performer.py::test_a_models_features_are_orthogonal_from_the_start_and_after_a_redraw[0]",
    ),
    Fault(
        "features drawn anew are not orthogonal",
        "models/performer.py",
        "self.features.copy_(orthogonal(self.count, self.sizes.head_dim, source))",
        "self.features.normal_(generator=source)",
        "tests/models/test_performer.py::test_a_models_features_are_orthogonal_from_the_start_and_after_a_redraw[1]",
    ),
    Fault(
        "a chunk forgets the chunks before it",
        "models/performer.py",
        "sums = sums * goes_on + (tells * (own == last)[:, None, :, None]).mT @ told",
        'sums = state["sums"].to(kind) + (tells * (own == last)[:, None, :, None]).mT @ told',
        "tests/models/test_streaming.py::test_blocks_that_are_computed_in_chunks_have_no_seam[performer-settings0]",
    ),
    Fault(
        "an LSTM begins with a projection that is too large for pre-norm",
        "models/lstm.py",
        "self.output.weight.data.div_((2 * sizes.layers) ** 0.5)",
        "pass",
        f"{_OF_METHODS}::test_pre_norm_starts_with_smaller_output_projections",
    ),
    Fault(
        "an LSTM's cell is rounded to half precision",
        "models/lstm.py",
        "with torch.autocast(x.device.type, enabled=False):",
        "with torch.autocast(x.device.type, dtype=torch.bfloat16):",
        f"{_OF_METHODS}::test_an_lstms_cell_adds_up_many_small_steps_under_autocast",
    ),
    Fault(
        "all names of a document have one class",
        "tasks/labelled_documents.py",
        "named = draws.integers(self.classes, size=self.names)",
        "named = draws.integers(1, size=self.names)",
        f"{_DOCUMENTS}::test_names_classes_fillers_and_places_are_drawn_uniformly_and_mentions_at_their_rate",
    ),
    Fault(
        "one name alone is mentioned",
        "tasks/labelled_documents.py",
        "name = draws.integers(self.names, size=self.tokens)",
        "name = draws.integers(1, size=self.tokens)",
        f"{_DOCUMENTS}::test_names_classes_fillers_and_places_are_drawn_uniformly_and_mentions_at_their_rate",
    ),
    Fault(
        "mentions are half as frequent as was asked for",
        "tasks/labelled_documents.py",
        "draws.random(self.tokens) < self.mention",
        "draws.random(self.tokens) < self.mention / 2",
        f"{_DOCUMENTS}::test_names_classes_fillers_and_places_are_drawn_uniformly_and_mentions_at_their_rate",
    ),
    Fault(
        "a first reading takes all rows at once",
        "tasks/document_step.py",
        "state = begin(model, document, randomness, groups)",
        "state = begin(model, document, randomness)",
        f"{_DOCUMENTS}::test_a_first_reading_takes_the_rows_in_the_groups_that_training_does",
    ),
    Fault(
        "what is read twice costs once",
        "bench/cell.py",
        "return parts.model.readings() * sizes.layers * (mixing",
        "return sizes.layers * (mixing",
        "tests/bench/test_cell.py::test_what_is_read_twice_costs_twice",
    ),
    Fault(
        "a cell's operations are those of one layer",
        "bench/cell.py",
        "return parts.model.readings() * sizes.layers * (mixing",
        "return parts.model.readings() * (mixing",
        "tests/bench/test_cell.py::test_the_operations_of_a_cell_are_those_of_its_layers[lstm-settings1]",
    ),
    Fault(
        "convolutions round where matrix products do not",
        "bench/cell.py",
        "torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False",
        "torch.backends.cuda.matmul.allow_tf32 = False",
        "tests/bench/test_cell.py::test_all_that_a_cell_computes_has_one_precision",
    ),
)

FAULTS = METHODS + ZOO + KERNELS + TASKS + WORLDS + AROUND_WORLDS + CELLS + CLOCK + REPORTS
