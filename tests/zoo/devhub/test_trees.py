"""The three-way merge by path, worked by hand."""

import subprocess

import pytest

from zoo.devhub.errors import HubError
from zoo.devhub.storage.trees import File, blob_id, check_path, listing, three_way


def tree(**files: str) -> dict[str, File]:
    return {path.replace("__", "/"): File(text, text, len(text), lfs=False) for path, text in files.items()}


def test_both_sides_add_different_files():
    pending, conflicts = three_way(tree(a="1"), ours=tree(a="1", b="2"), theirs=tree(a="1", c="3"))
    assert pending == {"c": tree(c="3")["c"]}
    assert conflicts == []


def test_both_sides_change_one_file():
    assert three_way(tree(a="1"), ours=tree(a="2"), theirs=tree(a="3"))[1] == ["a"]


def test_both_sides_add_one_file_with_different_contents():
    assert three_way(tree(), ours=tree(a="2"), theirs=tree(a="3"))[1] == ["a"]


def test_the_same_change_on_both_sides_is_no_conflict_and_nothing_to_do():
    assert three_way(tree(a="1"), ours=tree(a="2"), theirs=tree(a="2")) == ({}, [])


def test_a_deletion_is_applied():
    assert three_way(tree(a="1", b="1"), ours=tree(a="1", b="1"), theirs=tree(b="1")) == ({"a": None}, [])


def test_a_deletion_conflicts_with_a_change():
    assert three_way(tree(a="1"), ours=tree(a="2"), theirs=tree())[1] == ["a"]
    assert three_way(tree(a="1"), ours=tree(), theirs=tree(a="2"))[1] == ["a"]


def test_their_old_view_does_not_undo_our_news():
    pending, conflicts = three_way(tree(a="1", b="1"), ours=tree(a="9"), theirs=tree(a="1", b="1", c="1"))
    assert (list(pending), conflicts) == (["c"], [])


def test_a_file_where_the_other_side_has_a_folder_is_a_conflict():
    assert three_way(tree(), ours=tree(a__b="1"), theirs=tree(a="1"))[1] == ["a"]
    assert three_way(tree(), ours=tree(a="1"), theirs=tree(a__b="1"))[1] == ["a/b"]


def test_listing_one_level_and_all():
    files = tree(a="1", d__b="1", d__e__c="1")
    assert [entry["path"] for entry in listing(files, "", recursive=False)] == ["d", "a"]
    assert [entry["path"] for entry in listing(files, "d", recursive=False)] == ["d/e", "d/b"]
    assert [entry["path"] for entry in listing(files, "", recursive=True)] == ["d", "d/e", "a", "d/b", "d/e/c"]
    assert listing(files, "nowhere", recursive=True) == []


def test_blob_id_is_gits():
    git = subprocess.run(
        ["git", "hash-object", "--stdin"], input=b"hello\n", capture_output=True, check=True, timeout=200
    )
    assert blob_id(b"hello\n") == git.stdout.decode().strip()


@pytest.mark.parametrize("path", ["", "/a", "a//b", "../a", "a/../b", "a/.", ".git/config", "a/.GIT/b", "a\nb", "a\0"])
def test_paths_that_no_repository_holds(path: str):
    with pytest.raises(HubError, match="Not a path"):
        check_path(path)
