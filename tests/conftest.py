"""Two processes run the tests (`make test`): one those that start Ray, the other all the rest, a file at a time."""

import pytest


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in a hook of the same name
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Name each test's group for xdist, and put what takes longest first."""

    def starts_ray(item: pytest.Item) -> bool:
        return item.get_closest_marker("ray") is not None

    for item in items:
        item.add_marker(pytest.mark.xdist_group("ray" if starts_ray(item) else str(item.path)))
    items.sort(key=starts_ray, reverse=True)
