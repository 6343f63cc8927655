"""Numerators hold exactly what may have been said, each sequence once; topologies spell it in outputs."""

import math

import numpy as np
import pytest

from asr.errors import UserError
from asr.model.graphs.best_path import BestPath
from asr.model.graphs.denominator import denominator, occupancy
from asr.model.graphs.graph import fewest_frames
from asr.model.graphs.numerator import NumeratorBuilder, numerator
from asr.model.graphs.tensors import pad_numerators
from asr.model.topologies import topologies
from asr.text.phones.model import UNSEEN, uniform
from tests.support.tiny_phones import AMBIGUOUS, SENTENCES, SHAPES, UNITS, model, outputs_of, readings


def sequences(graph, most=12):
    """Every phone sequence of a graph of phones, with the logarithms of the weights of its paths."""
    found, paths = {}, [((graph.phones[s],), s, graph.start[s]) for s in np.flatnonzero(np.isfinite(graph.start))]
    while paths:
        phones, state, weight = paths.pop()
        if graph.final[state] > -math.inf:
            found.setdefault(tuple(int(phone) for phone in phones), []).append(weight + graph.final[state])
        for arc in np.flatnonzero(graph.sources == state):
            if len(phones) < most:
                target = graph.targets[arc]
                paths.append(((*phones, graph.phones[target]), target, weight + graph.weights[arc]))
    return found


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("slots", [*SENTENCES, AMBIGUOUS], ids=range(8))
@pytest.mark.parametrize("by_context", [False, True])
def test_a_numerator_is_exactly_its_readings_each_once_with_the_weight_of_the_language_model(shape, slots, by_context):
    lm = model(shape, [*SENTENCES, AMBIGUOUS])
    found = sequences(graph := numerator(slots, lm, by_context))
    assert found.keys() == readings(slots).keys()
    for phones, weights in found.items():
        assert len(weights) == 1 and abs(weights[0] - lm.log_probability(phones)) < 1e-12
    assert fewest_frames(graph) == min(map(len, found))


def test_the_denominator_is_the_language_model():
    for shape in SHAPES:
        lm = model(shape)
        found = sequences(denominator(lm), most=4)
        assert all(abs(weights[0] - lm.log_probability(phones)) < 1e-12 for phones, weights in found.items())
        assert {phones for phones in readings(SENTENCES[5]) if len(phones) <= 4} <= found.keys()
        prior = occupancy(denominator(lm))
        assert abs(prior.sum() - 1) < 1e-9 and (prior > 0).all()


def test_what_the_language_model_has_not_seen_costs_a_constant_and_only_where_there_is_no_other_path():
    lm = model(sentences=SENTENCES[:2])
    build = NumeratorBuilder(lm, topologies.create({"name": "chain"}, units=UNITS))
    strange = [((1.0, (2,)),), ((1.0, (1,)),), ((1.0, (2,)),)]
    assert numerator(strange, lm) is None and build.unseen(strange) and not build.unseen(SENTENCES[0])
    (weights,) = sequences(numerator(strange, lm, unseen=UNSEEN)).values()
    expected = lm.arcs[2][1] + UNSEEN  # 2 begins sentences; 1 has not followed it
    one, two = lm.states[(1,)], lm.states.get((1, 2), lm.states[(2,)])
    expected += lm.arcs[one * UNITS + 2][1] + (lm.ends[two] if lm.ends[two] > -math.inf else UNSEEN)
    assert abs(weights[0] - expected) < 1e-12
    assert build(strange) is not None
    # where one pronunciation has been seen, the other is no path
    either = [((0.5, (2, 1)), (0.5, (2,)))]
    assert sequences(numerator(either, lm)).keys() == {(2,)}


def test_what_allows_no_phone_has_no_numerator():
    lm = model()
    build = NumeratorBuilder(lm, topologies.create({"name": "chain"}, units=UNITS))
    assert build([]) is None and build([((1.0, ()),)]) is None
    padded = pad_numerators([None, build(SENTENCES[0])])
    assert not np.isfinite(padded.start[0]).any() and np.isfinite(padded.start[1]).any()


@pytest.mark.parametrize("name, settings", [("chain", {}), ("one", {}), ("left", {"name": "chain", "context": "left"})])
def test_outputs_are_those_of_the_definition(name, settings):
    topology = topologies.create({"name": name, **settings}, units=UNITS)
    graph = denominator(model())
    spelled = topology.spell(graph)
    pairs = zip(graph.left.tolist(), graph.phones.tolist())
    assert list(zip(spelled.first.tolist(), spelled.loop.tolist())) == [outputs_of(name, *pair) for pair in pairs]
    assert topology.outputs == {"chain": 6, "one": 3, "left": 24}[name]
    assert topology.required_frames([1, 1, 2]) == 3


def test_rare_pairs_of_phones_share_the_outputs_of_their_phone():
    chain, pairs = topologies.get("chain"), np.array([[0, 9, 0, 9], [0, 9, 9, 1], [0, 1, 9, 9], [0, 9, 9, 1]])
    settings = {"name": "chain", "context": "left", "min_count": 5}
    settings["contexts"] = list(chain.contexts_of(settings, pairs))
    assert settings["contexts"] == ["0 1 3", "1 2 3", "0 2"]
    topology = topologies.create(settings, units=UNITS)
    # for each phone one class for all rare pairs, and one for each other
    assert topology.table[:, 1].tolist() == [1, 2, 0, 3] and topology.table[:, 3].tolist() == [9, 8, 10, 8]
    assert topology.outputs == 2 * 11
    assert chain.contexts_of({"name": "chain"}, pairs) is None
    for damaged in (["0"], ["0", "1", "7"]):
        with pytest.raises(UserError, match="contexts"):
            topologies.create({**settings, "contexts": damaged}, units=UNITS)


def test_settings_that_cannot_be_are_answered_by_a_sentence():
    with pytest.raises(UserError, match="too many outputs"):
        topologies.create({"name": "chain", "context": "left"}, units=5000)
    assert topologies.create({"name": "chain"}, units=100_000).outputs == 199_998
    for settings in ({"context": "right"}, {"min_count": -1}, {"min_count": "x"}):
        with pytest.raises(UserError, match="topology."):
            topologies.create({"name": "chain", **settings}, units=UNITS)


def paths_of(lines, frames):
    """Of a transducer without marks: {labels read, one a frame: units written} of all paths of so many frames."""
    arcs, found = {}, {}
    for fields in (line.split() for line in lines):
        if len(fields) == 4:
            source, target, label, unit = map(int, fields)
            arcs.setdefault(source, []).append((target, label, unit))
    paths = [(0, (), ())]
    for _ in range(frames):
        paths = [
            (target, (*labels, label), (*units, *([unit - 1] if unit else [])))
            for state, labels, units in paths
            for target, label, unit in arcs[state]
        ]
    for _, labels, units in paths:
        assert labels not in found, "a sequence of labels has one reading"
        found[labels] = units
    return found


@pytest.mark.parametrize(
    "settings", [{"name": "ctc"}, {"name": "chain"}, {"name": "one"}, {"name": "chain", "context": "left"}], ids=str
)
def test_the_transducer_of_a_topology_reads_its_graphs_and_knows_its_units_again(settings):
    topology = topologies.create(settings, units=UNITS)
    for frames in (1, 2, 3):
        found = paths_of(topology.transducer(0), frames)
        for labels, units in found.items():
            again = topology.units_of(labels)
            assert tuple(one.unit for one in again) == units
            assert all(one.start < one.end <= frames for one in again)
            outputs = topology.columns[np.array(labels) - 1]
            # the same frames, read by the graph of exactly these units
            if units:
                build = NumeratorBuilder(uniform(UNITS), topology)
                emissions = np.full((frames, topology.outputs), -50.0)
                emissions[range(frames), outputs] = 0
                score, best = BestPath(build([((1.0, (unit,)),) for unit in units]), 0.0)(emissions)
                assert score == 0 and [one.unit for one in best] == list(units)
                if settings["name"] != "one":
                    assert [one.start for one in best] == [one.start for one in again]


def test_outputs_that_say_that_nobody_speaks():
    for settings, quiet in (
        ({"name": "ctc"}, [0]), ({"name": "chain"}, [4, 5]), ({"name": "one"}, [2]),
        ({"name": "chain", "context": "left"}, list(range(16, 24))),
    ):  # fmt: skip
        assert topologies.create(settings, units=UNITS).quiet(3) == quiet
    assert topologies.create({"name": "chain"}, units=UNITS).quiet(None) == []
