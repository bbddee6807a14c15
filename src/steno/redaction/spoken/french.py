"""French: pairs, "soixante-quinze", "quatre-vingt-dix-sept", "arobase" and "point"."""

from __future__ import annotations

from steno.redaction.spoken.lexicon import Form, Number, Table, Topic, digits, topics, words

TABLE = Table(
    code="fr",
    numbers=digits(
        "zéro/zero un/une deux trois quatre cinq six sept huit neuf",
        "dix onze douze treize quatorze quinze seize dix-sept dix-huit dix-neuf",
        "vingt/vingts trente quarante cinquante soixante septante huitante/octante nonante",
    )
    | {
        "cent": Number(100, Form.HUNDRED),
        "cents": Number(100, Form.HUNDRED),
        "mille": Number(1000, Form.THOUSAND),
        "million": Number(1_000_000, Form.MILLION),
        "millions": Number(1_000_000, Form.MILLION),
    },
    not_numbers=words("o oh on once ten die elf mil one"),
    weak=words("un une"),
    multipliers={"double": 2, "triple": 3},
    fillers=words(
        "euh heu ben bah hum hmm ah oui alors ensuite puis voilà voila donc tiret espace "
        "virgule point pardon attendez d'accord ok bon enfin plus slash"
    ),
    joins=words("et"),
    ors=words("ou"),
    units=words(
        "euro euros dollar dollars centime centimes pour-cent pourcent pour seconde secondes "
        "minute minutes heure heures jour jours nuit nuits semaine semaines mois an ans année "
        "années fois mètres metres kilomètres kilometres kilo kilos grammes litres degrés "
        "personnes clients utilisateurs unités unites pièces pieces boîtes cartons pages points "
        "méga mégas giga gigas bouteilles enfants articles colis places billets"
    ),
    time_words=words(
        "en depuis jusqu'en de à a vers an année janvier février fevrier mars avril mai juin "
        "juillet août aout septembre octobre novembre décembre decembre"
    ),
    topics=topics(
        {
            Topic.PHONE: "téléphone telephone portable mobile fixe tél tel joindre fax whatsapp "
            "coordonnées",
            Topic.CALL: "appelez rappelez appeler rappeler appelle composez",
            Topic.CARD: "carte visa mastercard amex bancaire bleue",
            Topic.SSN: "sécurité securite sociale sécu secu",
            Topic.ACCOUNT: "compte passeport",
            Topic.IBAN: "iban rib",
            Topic.CODE: "cvv cvc cryptogramme",
            Topic.EMAIL: "mail e-mail email courriel mél",
            Topic.KEEP: "commande facture référence reference suivi réservation reservation "
            "version modèle modele pièce piece série serie produit article vol chambre page "
            "police postal poste lot colis contrat reçu recu dossier ticket compteur relevé "
            "prix coûte coute total montant solde payé paye année né née naissance expire "
            "expiration date client adhérent adherent billet livraison incident devis quantité "
            "quantite budget",
        }
    ),
    number_words=words("numéro numero numéros chiffres"),
    mine=words("mon ton son votre notre leur ma"),
    ending=words("termine terminant finissant finit derniers dernières"),
    at=words("arobase arrobase arobas"),
    dots=words("point"),
    joiners=words("tiret bas souligné underscore moins plus"),
    stops=words(
        "est c'est le la les un une mon ma ton votre notre mail e-mail email courriel adresse à a "
        "au de du des en par pour avec que et ou me écrivez ecrivez envoyez envoyer écrire oui "
        "alors euh sur son sa cette ce mél nom utilisateur compte électronique personnelle moi"
    ),
)
