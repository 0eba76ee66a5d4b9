from __future__ import annotations

from pathlib import Path

from fruits_cli.cloud.layout import Places
from fruits_cli.job.arguments import Job
from fruits_cli.job.model import ModelArtefact
from fruits_cli.job.shipment import shipped_job
from fruits_cli.s3uri import parse_s3_uri
from tests.support.fakes import FakeAws


def shipped(aws: FakeAws, folder: Path, graph: str) -> Job:
    """A job with a model of the same weights, whose graph was made on some machine."""
    folder.mkdir(exist_ok=True)
    (folder / "graph.xml").write_text(graph)
    (folder / "model.json").write_text("{}")
    places = Places("grapes", "fruits")
    artefact = ModelArtefact(folder, {"fingerprint": "f00d"})
    images = places.dataset("figs")
    return shipped_job(places, artefact, aws.storage, images=images, run_id="r")


def test_a_model_made_elsewhere_of_the_same_weights_replaces_none_that_a_run_reads(
    tmp_path: Path,
) -> None:
    aws = FakeAws()
    aws.storage.create_bucket("grapes")

    first = shipped(aws, tmp_path / "here", "<net/>")
    other = shipped(aws, tmp_path / "there", "<net a=''/>")

    model = parse_s3_uri(first.places.model)
    found = aws.storage.fetch_bytes(model / "graph.xml")
    assert found is not None
    assert found.content == b"<net/>"
    assert first.places.model != other.places.model
    assert model.key.startswith("fruits/models/f00d/")
    assert shipped(aws, tmp_path / "here", "<net/>").places.model == first.places.model
