"""What the Hub says of published models, as the table asks for it."""

from huggingface_hub import HfApi

from leaderboard.serving.models import hub_metadata
from tests.zoo.faults import bad_line
from zoo.devhub import serve

CARD = b"---\nlicense: apache-2.0\n---\n"


def test_one_request_an_owner_tells_of_all_their_models(tmp_path):
    with serve(tmp_path / "hub", {"ann": "hf_ann", "bob": "hf_bob"}) as url:
        for owner, names in {"ann": ("a", "b", "of-no-log"), "bob": ("c",)}.items():
            api = HfApi(endpoint=url, token=f"hf_{owner}")
            for name in names:
                api.create_repo(f"{owner}/{name}")
                api.upload_file(path_or_fileobj=CARD, path_in_repo="README.md", repo_id=f"{owner}/{name}")
        with bad_line(url) as line:
            table = hub_metadata(["ann/a", "bob/c", "ann/b", "ann/gone"], HfApi(endpoint=line.url, token=False))
    assert len(line.seen) == 2
    assert sorted(table.index) == ["ann/a", "ann/b", "bob/c"]
    assert set(table["licence"]) == {"apache-2.0"}
    assert (table["likes"] == 0).all()
    assert table["updated"].notna().all()
