"""Many contributors at once: 200 pull requests from 16 threads, merged while others still open theirs."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from huggingface_hub import CommitOperationAdd, HfApi

KIND = {"repo_type": "dataset"}
PULLS, THREADS = 200, 16


@pytest.mark.slow
def test_200_pull_requests_from_16_threads_none_lost_none_doubled(owner: HfApi, ann: HfApi, bob: HfApi, repo: str):
    def contents(index: int) -> bytes:
        return f"PAR1 run {index}".encode()

    def open_and_merge(index: int) -> int:
        api = (ann, bob)[index % 2]
        operation = CommitOperationAdd(f"runs/{index}.parquet", contents(index))
        num = api.create_commit(repo, [operation], commit_message=f"Run {index}", create_pr=True, **KIND).pr_num
        assert num
        owner.merge_pull_request(repo, num, **KIND)
        return num

    with ThreadPoolExecutor(THREADS) as pool:
        numbers = list(pool.map(open_and_merge, range(PULLS)))

    assert sorted(numbers) == list(range(1, PULLS + 1))
    expected = {f"runs/{index}.parquet" for index in range(PULLS)} | {".gitattributes"}
    assert sorted(owner.list_repo_files(repo, **KIND)) == sorted(expected)
    titles = [commit.title for commit in owner.list_repo_commits(repo, **KIND)]
    merged = [f"Run {index} (#{num})" for index, num in enumerate(numbers)]
    assert sorted(titles) == sorted([*merged, "initial commit"])
    pulls = list(owner.get_repo_discussions(repo, **KIND))
    assert sorted((pull.num, pull.status) for pull in pulls) == [(num, "merged") for num in range(1, PULLS + 1)]
    for index in (0, 99, 199):
        assert owner.list_repo_files(repo, revision=f"refs/pr/{numbers[index]}", **KIND).count(f"runs/{index}.parquet")
