"""Progress over a whole graph: the steps a person asked for, over all pictures, as one count that only grows."""

import pytest

from tests.comfy.workflows import given
from tintype.comfy import progressing
from tintype.comfy.progressing import Course
from tintype.comfy.runs import Step
from tintype.comfy.workflows import graphs
from tintype.comfy.workflows.graphs import Graph


def graph(**nodes: tuple[str, dict]) -> Graph:
    return graphs.parse({name: {"class_type": kind, "inputs": inputs} for name, (kind, inputs) in nodes.items()})


LATENT = {"latent_image": ["l", 0]}


@pytest.mark.parametrize(
    ("nodes", "steps"),
    [
        ({"s": ("KSampler", {"steps": 20, **LATENT})}, {"s": 20}),
        (
            {
                "a": ("KSamplerAdvanced", {"steps": 25, "start_at_step": 0, "end_at_step": 20, **LATENT}),
                "b": ("KSamplerAdvanced", {"steps": 25, "start_at_step": 20, "end_at_step": 10000, **LATENT}),
            },
            {"a": 20, "b": 5},
        ),
        (
            {
                "s": ("SamplerCustomAdvanced", {"sigmas": ["f", 0], **LATENT}),
                "f": ("FlipSigmas", {"sigmas": ["t", 0]}),
                "t": ("BasicScheduler", {"steps": 8, "model": ["m", 0]}),
            },
            {"s": 8},
        ),
        ({"s": ("KSampler", {"steps": ["n", 0], **LATENT}), "n": ("PrimitiveInt", {"value": 12})}, {"s": 12}),
        ({"s": ("KSampler", {"steps": ["s", 0], **LATENT})}, {}),
        ({"u": ("ImageUpscaleWithModel", {"image": ["l", 0]})}, {}),
    ],
    ids=["one", "refiner", "sigmas", "linked", "a circle", "none"],
)
def test_the_steps_of_samplers_are_read_from_the_graph(nodes, steps):
    assert progressing.sampler_steps(graph(**nodes)) == steps


def test_the_graphs_a_real_server_ran_say_their_steps():
    for name, steps in (("txt2img", 4), ("img2img", 2), ("controlnet_canny", 2)):
        assert list(progressing.sampler_steps(graphs.parse(given.graph_json(name))).values()) == [steps]


def told(course: Course, *steps: tuple[int, str, int, int]) -> list[tuple[int, int]]:
    found = [course.advance(run, Step(node=node, step=step, steps=most)) for run, node, step, most in steps]
    return [(one.step, one.steps) for one in found if one is not None]


def test_progress_counts_samplers_alone_over_all_runs_and_never_goes_back():
    nodes = {"s": ("KSampler", {"steps": 4, **LATENT}), "d": ("VAEDecodeTiled", {"samples": ["s", 0]})}
    course = Course(graph(**nodes), 2)
    assert told(course, (0, "s", 0, 0), (0, "s", 1, 4), (0, "d", 5, 9), (0, "s", 4, 4)) == [(0, 8), (1, 8), (4, 8)]
    assert course.end(0) is None, "nothing new"
    assert told(course, (1, "s", 2, 4), (1, "s", 1, 4)) == [(6, 8)]
    ended = course.end(1)
    assert (ended.step, ended.steps) == (8, 8)


def test_a_run_that_told_nothing_as_the_server_had_it_all_counts_as_done():
    course = Course(graph(s=("KSampler", {"steps": 4, **LATENT})), 1)
    ended = course.end(0)
    assert (ended.step, ended.steps) == (4, 4)


def test_without_a_sampler_whatever_tells_of_steps_counts():
    course = Course(graph(u=("ImageUpscaleWithModel", {"image": ["l", 0]})), 1)
    assert told(course, (0, "u", 0, 0)) == []
    assert told(course, (0, "u", 1, 36), (0, "u", 36, 36)) == [(1, 36), (36, 36)]
    assert Course(graph(u=("ImageScale", {"image": ["l", 0]})), 1).end(0).steps == 1


def test_a_sampler_that_does_fewer_steps_than_the_graph_says_does_not_send_progress_back():
    course = Course(graph(s=("KSampler", {"steps": 20, **LATENT})), 1)
    assert told(course, (0, "s", 1, 10), (0, "s", 5, 10)) == [(1, 10), (5, 10)]


def test_the_last_step_is_known():
    course = Course(graph(s=("KSampler", {"steps": 2, **LATENT})), 2)
    assert not course.is_at_last(0)
    told(course, (0, "s", 1, 2))
    assert course.is_at_last(0)
    assert not course.is_at_last(1)
