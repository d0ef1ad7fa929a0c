"""Search settings with scikit-learn, each speaker a peer that keeps its clips: python scikit_learn.py"""

import numpy as np
from sklearn import set_config
from sklearn.model_selection import GridSearchCV, LeaveOneGroupOut

import p2pser


def main() -> None:
    """Print the best settings and what they reach on speakers that no peer trained on."""
    emotions = np.tile(["anger", "joy", "sadness"], 40)
    speakers = np.repeat([f"speaker {k}" for k in range(6)], 20)
    features = np.random.default_rng(0).normal(size=(120, 3)) + 2 * (emotions[:, None] == np.unique(emotions))

    set_config(enable_metadata_routing=True)  # the groups of the search reach the estimator too
    model = p2pser.Classifier(topology="ring", rounds=5).set_fit_request(groups=True)
    search = GridSearchCV(model, {"settings": [{"training.lr": 0.02}, {"training.lr": 0.1}]}, cv=LeaveOneGroupOut(),
                          scoring="balanced_accuracy")
    search.fit(features, emotions, groups=speakers)
    print(search.best_params_, f"UAR {search.best_score_:.2f}")
    print(search.best_estimator_.simulation_.topology.size, "peers;", search.predict(features[:3]))


if __name__ == "__main__":
    main()
