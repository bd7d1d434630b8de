import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from backdoor_core.contracts import InputSpec
from backdoor_models import Logistic

SPEC = InputSpec(("age", "lactate", "sodium"))


def test_fitted_without_penalty_it_is_scikit_learns_logistic_regression(build):
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(300, 3)).astype(np.float32)
    labels = (inputs @ [1.0, -2.0, 0.5] + rng.logistic(size=300) > 0.3).astype(np.float32)
    network = build(Logistic, SPEC)
    x, y = torch.from_numpy(inputs), torch.from_numpy(labels)
    optimizer = torch.optim.LBFGS(network.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        value = torch.nn.functional.binary_cross_entropy_with_logits(network(x), y)
        value.backward()
        return value

    optimizer.step(loss)
    expected = LogisticRegression(C=np.inf, tol=1e-8).fit(inputs, labels).decision_function(inputs)
    np.testing.assert_allclose(network(x).detach().numpy(), expected, atol=0.01)


def test_its_embedding_is_its_input(build):
    x = torch.randn(4, 3)
    assert torch.equal(build(Logistic, SPEC).embed(x), x)
