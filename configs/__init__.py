"""YAML configurations shipped with the package; ``lightning-al configs`` lists them."""
